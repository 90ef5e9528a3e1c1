"""Write zoo files, crash-safe: from models in memory, or from the shards of a build."""

from wsl.zoo.write.models import Model, write_models
from wsl.zoo.write.options import FileOptions
from wsl.zoo.write.records import check_finite
from wsl.zoo.write.writer import ZooWriter

__all__ = [
    "FileOptions",
    "Model",
    "ZooWriter",
    "check_finite",
    "write_models",
]
