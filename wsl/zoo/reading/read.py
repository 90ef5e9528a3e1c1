"""One checkpoint, whatever it was saved as: the one reader of every verb and importer.

    found = open_checkpoint("run/last.ckpt")      what it holds: sets of weights, metadata, the rest
    params, about = read_checkpoint("run/last.ckpt", entry="model_ema")

A path is a file, a folder with shards and an index, or a hub snapshot (`files`). Its kind is told
by its content (`kinds`), sets of weights are found in it (`entries`), and whatever is not read is
said in ``notes``. Nothing is ever run.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from wsl.params import Params
from wsl.zoo.reading.entries import Content, WeightSet, find_sets
from wsl.zoo.reading.files import INDEX, read_shards, resolve
from wsl.zoo.reading.formats import read_content, text_metadata


@dataclasses.dataclass(frozen=True, eq=False)
class FoundCheckpoint:
    """What lies at ``path``: sets of weights, plain values, and what has to be said of it."""

    path: Path
    content: Content
    notes: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict[str, Any]:
        """Numbers and text that stand beside the weights."""
        return self.content.metadata

    def choose(self, entry: str | None = None) -> tuple[Params, tuple[str, ...]]:
        """The weights of ``entry``, or of the obvious set, and notes of what was not read."""
        chosen, notes = self.content.choose(str(self.path), entry)
        return chosen.params, (*self.notes, *notes)


def open_checkpoint(path: str | Path) -> FoundCheckpoint:
    """Everything that lies at ``path``; raises `ZooError` if it cannot be read."""
    file = resolve(path)
    if file.name.endswith(INDEX):
        shards = read_shards(file)
        return FoundCheckpoint(file, Content((WeightSet("", shards.params),), {}), shards.notes)
    content = find_sets(read_content(file))
    names = content.sets[0].params if content.sets else ()
    about = {**content.metadata, **text_metadata(file, names)}
    content = dataclasses.replace(content, metadata=about)
    return FoundCheckpoint(file, content, _link_note(Path(path), file))


def read_checkpoint(path: str | Path, *, entry: str | None = None) -> tuple[Params, dict[str, Any]]:
    """Tensors and metadata of one checkpoint: a file, a sharded folder or a hub snapshot.

    ``entry`` names the set of weights where a file holds several. Raises `ZooError` if the file is
    missing, damaged, no checkpoint, would run code, or leaves the choice open. `open_checkpoint`
    also tells what was not read.
    """
    found = open_checkpoint(path)
    return found.choose(entry)[0], found.metadata


def _link_note(path: Path, file: Path) -> tuple[str, ...]:
    return (f"{path}: is a link to {file.resolve()}",) if path.is_symlink() else ()
