"""Open zoo files: one, several as one, or a copy in memory."""

from wsl.zoo.opening.dataset import Zoo
from wsl.zoo.opening.several import Collection, Concatenation, Resident, concatenate, open

__all__ = [
    "Collection",
    "Concatenation",
    "Resident",
    "Zoo",
    "concatenate",
    "open",
]
