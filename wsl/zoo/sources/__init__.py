"""Where checkpoints come from: an importer for each kind of folder or file.

An importer is an iterator of `Checkpoint`, and of `Refused` for what could not be read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsl.zoo.file import ZooError
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Skipped, Source
from wsl.zoo.sources.flat_hdf5 import HDF5, flat_hdf5
from wsl.zoo.sources.folder import folder
from wsl.zoo.sources.hub import ADDRESS, hub, snapshot
from wsl.zoo.sources.importer import (
    Imported,
    ImportOptions,
    import_architectures,
    import_checkpoints,
)
from wsl.zoo.sources.ledger import FileOutcome, account, bare
from wsl.zoo.sources.mixed import Kinds, mixed
from wsl.zoo.sources.ray_tune import ray_tune
from wsl.zoo.sources.small_cnn_zoo import small_cnn_zoo


def detect(path: str | Path) -> Callable[..., Source]:
    """The importer for ``hub:OWNER/NAME``, or for what lies at ``path``, by its files.

    A folder of several kinds is `mixed`. Raises `ZooError` if nothing lies there.
    """
    root = Path(path)
    if str(path).startswith(ADDRESS):
        return hub
    if root.is_file():
        return flat_hdf5 if root.suffix in HDF5 else folder
    if not root.is_dir():
        raise ZooError(f"{root}: no such file or folder")
    return _of_folder(root)


def _of_folder(root: Path) -> Callable[..., Source]:
    kinds = Kinds.of(root)
    if kinds.tables == [root]:
        return small_cnn_zoo
    there = _readers(kinds)
    if not there:
        return flat_hdf5 if any(file.suffix in HDF5 for file in kinds.files) else folder
    below = flat_hdf5 in there and any(file.parent != root for file in kinds.hdf5)
    return there[0] if len(there) == 1 and not below else mixed


def _readers(kinds: Kinds) -> list[Callable[..., Source]]:
    """The importers of the kinds that there are."""
    readers = (ray_tune, mixed, hub, flat_hdf5, folder)
    given = (kinds.trials, kinds.tables, kinds.snapshots, kinds.hdf5, kinds.checkpoints)
    return [reader for reader, places in zip(readers, given, strict=True) if places]


__all__ = [
    "Checkpoint",
    "FileOutcome",
    "ImportOptions",
    "Imported",
    "Refused",
    "Skipped",
    "Source",
    "account",
    "bare",
    "detect",
    "flat_hdf5",
    "folder",
    "hub",
    "import_architectures",
    "import_checkpoints",
    "mixed",
    "ray_tune",
    "small_cnn_zoo",
    "snapshot",
]
