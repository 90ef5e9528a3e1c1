"""Populations of checkpoints: one HDF5 file each, read in batches, written crash-safe, exported and checked."""

from wsl.zoo.convert import export, read_checkpoint, write_checkpoint
from wsl.zoo.dataset import Zoo
from wsl.zoo.error import ZooError
from wsl.zoo.loader import Loader
from wsl.zoo.writer import ZooWriter

__all__ = ["Loader", "Zoo", "ZooError", "ZooWriter", "export", "read_checkpoint", "write_checkpoint"]
