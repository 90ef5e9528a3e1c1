"""A folder of several kinds at once: each file is read by the importer that knows its kind.

    trials of Ray Tune        folders with params.json and checkpoint_*
    the Small CNN Zoo         folders with weights.npy and layout.csv
    snapshots                 folders with model.safetensors, pytorch_model.bin or their indices
    flat HDF5                 files with ``params`` and ``param_config``
    single checkpoints        all other files called like one

Members of one kind are numbered after those of the kind before. A folder is no snapshot only
because one of several checkpoints in it is called model.safetensors, without config.json beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsl.zoo.file import ZooError
from wsl.zoo.reading import INDEX, SUFFIXES, has_suffix, is_copy
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Source, natural
from wsl.zoo.sources.files import walk
from wsl.zoo.sources.flat_hdf5 import HDF5, holds_rows, read_hdf5
from wsl.zoo.sources.folder import read_files
from wsl.zoo.sources.hub import NAMES, is_side, read_folders, snapshots
from wsl.zoo.sources.ray_tune import read_trials, trials_in
from wsl.zoo.sources.small_cnn_zoo import FILES, small_cnn_zoo


class Kinds(NamedTuple):
    """What lies below a folder: the folders or files of each kind."""

    trials: list[Path]
    tables: list[Path]
    snapshots: list[Path]
    hdf5: list[Path]
    files: list[Path]

    @classmethod
    def of(cls, root: Path) -> Kinds:
        """Every file below ``root`` under the kind that reads it."""
        found = list(walk(root))
        trials = trials_in(found)
        inside = set(trials)
        free = [file for file in found if inside.isdisjoint(file.parents)]
        tables = _tables(free)
        hubs = [place for place in snapshots(root, free) if _is_snapshot(place, free)]
        taken = {*tables, *hubs}
        free = [file for file in free if file.parent not in taken]
        rows = natural(file for file in free if file.suffix in HDF5 and holds_rows(file))
        return cls(trials, tables, hubs, rows, [file for file in free if file not in rows])

    @property
    def checkpoints(self) -> list[Path]:
        """Of the single files those that are called checkpoints."""
        return [file for file in self.files if has_suffix(file)]


def _tables(found: list[Path]) -> list[Path]:
    """The folders of a Small CNN Zoo: those with both files of its names."""
    weights, layout = FILES
    there = (file for file in found if file.name == weights)
    return natural(file.parent for file in there if file.with_name(layout).is_file())


def mixed(path: str | Path, *, pattern: str | None = None, entry: str | None = None) -> Source:
    """The checkpoints of every kind below the folder ``path``.

    ``pattern`` and ``entry`` are for its single files, as for `folder`.
    """
    root, start = Path(path), 0
    kinds = Kinds.of(root)
    if not any((*kinds[:-1], kinds.checkpoints)):
        raise ZooError(
            f"{root}: has no checkpoints; files ending in {', '.join(SUFFIXES)} are looked for"
        )
    for read in _readers(root, kinds, functools.partial(read_files, pattern=pattern, entry=entry)):
        end = start
        for item in read():
            if isinstance(item, Checkpoint):
                item = item._replace(member=item.member + start)
                end = max(end, item.member + 1)
            yield item
        start = end


def _readers(
    root: Path, kinds: Kinds, read: Callable[[Path, list[Path]], Source]
) -> Iterator[Callable[[], Source]]:
    yield functools.partial(read_trials, root, kinds.trials)
    for table in kinds.tables:
        yield functools.partial(_table, root, table)
    yield functools.partial(read_folders, root, kinds.snapshots)
    yield functools.partial(_refusing, read_hdf5, root, kinds.hdf5)
    yield functools.partial(read, root, kinds.files)


def _table(root: Path, place: Path) -> Source:
    """A Small CNN Zoo, its files named from ``root``."""
    where = place.relative_to(root).as_posix()
    for item in _refusing(lambda _, at: small_cnn_zoo(at), root, place):
        if isinstance(item, Checkpoint) and where != ".":
            files = tuple(f"{where}/{name}" for name in item.files)
            about = {**item.metadata, "source": files[0]}
            item = item._replace(files=files, metadata=about, origin=f"{where} {item.origin}")
        yield item


def _refusing(read: Callable[[Path, Any], Source], root: Path, what: Any) -> Source:
    """What ``read`` gives; a file that ends it is refused, and does not end the others."""
    try:
        yield from read(root, what)
    except ZooError as error:
        yield Refused(str(error).partition(":")[0], str(error))


def _is_snapshot(folder: Path, found: list[Path]) -> bool:
    """Whether a snapshot's names in ``folder`` mean one, and are not chance among other files."""
    if (folder / "config.json").is_file():
        return True
    if any((folder / name).is_file() for name in NAMES if name.endswith(INDEX)):
        return True
    here = [file for file in found if file.parent == folder and has_suffix(file)]
    return all(file.name in NAMES or is_side(file) or is_copy(file, folder) for file in here)


__all__ = ["Kinds", "mixed"]
