"""Between zoo files and other checkpoints: export, write, convert."""

from wsl.zoo.exchange.convert import export, write_checkpoint
from wsl.zoo.exchange.save import save

__all__ = ["export", "save", "write_checkpoint"]
