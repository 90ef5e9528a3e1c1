"""Where checkpoints come from: an importer per kind of folder or file, each an iterator of
`Checkpoint` and `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsl.zoo.file import ZooError
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Source
from wsl.zoo.sources.flat_hdf5 import SUFFIXES as _HDF5
from wsl.zoo.sources.flat_hdf5 import flat_hdf5
from wsl.zoo.sources.folder import folder
from wsl.zoo.sources.hub import NAMES, hub
from wsl.zoo.sources.importer import Imported, ImportOptions, import_checkpoints
from wsl.zoo.sources.ray_tune import ray_tune
from wsl.zoo.sources.small_cnn_zoo import small_cnn_zoo


def detect(path: str | Path) -> Callable[[str | Path], Source]:
    """The importer for what lies at ``path``, by the names of the files there; raises `ZooError` if
    nothing does.
    """
    root = Path(path)
    if root.is_file():
        return flat_hdf5 if root.suffix in _HDF5 else folder
    if not root.is_dir():
        raise ZooError(f"{root}: no such file or folder")
    if (root / "weights.npy").is_file() and (root / "layout.csv").is_file():
        return small_cnn_zoo
    if any(True for _ in root.rglob("params.json")) and any(
        True for _ in root.rglob("checkpoint_*")
    ):
        return ray_tune
    if any(True for name in NAMES for _ in root.rglob(name)):
        return hub
    return flat_hdf5 if any(file.suffix in _HDF5 for file in root.iterdir()) else folder


__all__ = [
    "Checkpoint",
    "ImportOptions",
    "Imported",
    "Refused",
    "Source",
    "detect",
    "flat_hdf5",
    "folder",
    "hub",
    "import_checkpoints",
    "ray_tune",
    "small_cnn_zoo",
]
