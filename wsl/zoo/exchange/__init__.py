"""Between zoo files and other checkpoints: export, read, write, convert."""

from wsl.zoo.exchange.convert import (
    PICKLED,
    export,
    read_checkpoint,
    read_pickled,
    write_checkpoint,
)
from wsl.zoo.exchange.save import save

__all__ = [
    "PICKLED",
    "export",
    "read_checkpoint",
    "read_pickled",
    "save",
    "write_checkpoint",
]
