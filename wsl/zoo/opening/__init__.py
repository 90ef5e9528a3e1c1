"""Open zoo files: one, several as one, or a copy in memory."""

from wsl.zoo.opening.coded import CodedZoo, is_coded, save_coded
from wsl.zoo.opening.dataset import Zoo
from wsl.zoo.opening.several import Collection, Concatenation, Resident, concatenate, open

__all__ = [
    "CodedZoo",
    "Collection",
    "Concatenation",
    "Resident",
    "Zoo",
    "concatenate",
    "is_coded",
    "open",
    "save_coded",
]
