"""Write zoo files, crash-safe."""

from wsl.zoo.write.models import write_models
from wsl.zoo.write.records import check_finite
from wsl.zoo.write.writer import ZooWriter

__all__ = [
    "ZooWriter",
    "check_finite",
    "write_models",
]
