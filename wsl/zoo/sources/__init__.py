"""Where checkpoints come from: an importer for each kind of folder or file.

An importer is an iterator of `Checkpoint`, and of `Refused` for what could not be read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsl.zoo.file import ZooError
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Skipped, Source
from wsl.zoo.sources.files import walk
from wsl.zoo.sources.flat_hdf5 import SUFFIXES as _HDF5
from wsl.zoo.sources.flat_hdf5 import flat_hdf5
from wsl.zoo.sources.folder import SUFFIXES, folder
from wsl.zoo.sources.hub import ADDRESS, NAMES, hub, snapshot
from wsl.zoo.sources.importer import Imported, ImportOptions, import_checkpoints
from wsl.zoo.sources.ray_tune import ray_tune
from wsl.zoo.sources.small_cnn_zoo import small_cnn_zoo


def detect(path: str | Path) -> Callable[[str | Path], Source]:
    """The importer for ``hub:OWNER/NAME``, or for what lies at ``path``, by the names of its files.

    Raises `ZooError` if nothing does.
    """
    root = Path(path)
    if str(path).startswith(ADDRESS):
        return hub
    if root.is_file():
        return flat_hdf5 if root.suffix in _HDF5 else folder
    if not root.is_dir():
        raise ZooError(f"{root}: no such file or folder")
    if all((root / name).is_file() for name in ("weights.npy", "layout.csv")):
        return small_cnn_zoo
    if any(_is_trial(file.parent) for file in walk(root) if file.name == "params.json"):
        return ray_tune
    if any(file.name in NAMES for file in walk(root)):
        return hub
    names = [file.name for file in walk(root)]
    if any(name.endswith(SUFFIXES) for name in names):
        return folder
    return flat_hdf5 if any(name.endswith(_HDF5) for name in names) else folder


def _is_trial(folder: Path) -> bool:
    """Whether there are checkpoints as folders; beside files of this name it is another kind."""
    return any(path.is_dir() for path in folder.glob("checkpoint_*"))


__all__ = [
    "Checkpoint",
    "ImportOptions",
    "Imported",
    "Refused",
    "Skipped",
    "Source",
    "detect",
    "flat_hdf5",
    "folder",
    "hub",
    "import_checkpoints",
    "ray_tune",
    "small_cnn_zoo",
    "snapshot",
]
