"""Checkpoints written as an element moves them: part by part, file by file, to be taken up again.

    OUT/model-00001-of-00003.safetensors    the shards of the input, same tensors, types and order
    OUT/.wsl.journal.json                   the key of the work, and the hash of each finished shard
    OUT/model.safetensors.index.json        last, so that what has it is whole

A shard appears whole or not at all; the disk has one while the next is made. A process that is
killed leaves finished shards and their journal; the same work, known by its key, goes on after
them, and other work starts anew. Bytes do not depend on where it was killed. Values that a
permutation moves are never computed with, so every type is kept to the bit; what matrices turn is
rounded once (`moves`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wsl.base import replacing
from wsl.matching.large.files import DTYPES, TensorFile, TensorFiles
from wsl.matching.large.moves import Element, Moves, moved_parts

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclasses.dataclass
class Journal:
    """What is done of the work ``key``, kept in a file.

    ``told`` is what has been found out, as JSON; ``done`` the hashes of finished files by name.
    """

    path: Path
    key: str
    told: dict[str, Any] = dataclasses.field(default_factory=dict)
    done: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def taken_up(cls, path: Path, key: str) -> Journal:
        """The journal at ``path`` if it is of the same work, else a new one."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_text())
            if content["key"] == key:
                return cls(path, key, content["told"], content["done"])
        return cls(path, key)

    def save(self) -> None:
        """Write it, whole or not at all."""
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps({k: getattr(self, k) for k in ("key", "told", "done")}))

    def has(self, file: Path) -> bool:
        """Whether a file was finished by this work and is still what was written."""
        return file.is_file() and self.done.get(file.name) == _hash(file)

    def finished(self, file: Path, digest: str) -> None:
        """Note a finished file."""
        self.done[file.name] = digest
        self.save()

    def close(self) -> None:
        """The work is done: nothing is left to be taken up."""
        self.path.unlink(missing_ok=True)


def write_moved(
    out: Path,
    files: TensorFiles,
    element: Element,
    *,
    moves: Moves,
    journal: Journal,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the tensors of ``files`` that ``moves`` names, moved by ``element``.

    ``out`` is one file, or a folder that gets files of the same names. Tensors that ``moves`` does
    not name are left out. What the journal has finished is not written again.
    """
    one = out.suffix == ".safetensors"
    parts = {out.name: _joined(files)} if one else files.files
    kept = {
        name: file._replace(tensors={n: t for n, t in file.tensors.items() if n in moves})
        for name, file in parts.items()
    }

    tensors = files.tensors

    def moved(file: TensorFile) -> Iterator[Tensor]:
        for name in file.tensors:
            origin = moves[name].origin(name, element)
            yield from moved_parts(tensors[origin], moves[name], element)

    write_files(out.parent if one else out, kept, moved, journal=journal, say=say)


def write_files(
    folder: Path,
    files: Mapping[str, TensorFile],
    parts: Callable[[TensorFile], Iterable[Tensor]],
    *,
    journal: Journal,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write files of the names, types and shapes that ``files`` tells, one after the other.

    ``parts`` gives the values of a file: its tensors in order, each whole or cut along its first
    axis. What the journal has finished is not written again.
    """

    def settle(name: str, written: _Written | None) -> None:
        """Wait for the disk, put the file in place and note it."""
        if written is not None:
            written.place.close()
            journal.finished(folder / name, written.digest)
        say(f"{folder / name}: written, {list(files).index(name) + 1} of {len(files)}")

    with ThreadPoolExecutor(1) as settling:
        last: Future[None] | None = None
        for name, file in files.items():
            done = journal.has(folder / name)
            written = None if done else _write(folder / name, file, parts(file))
            if last is not None:
                last.result()  # one file is on its way to the disk while the next is made, no more
            last = settling.submit(settle, name, written)
        if last is not None:
            last.result()


def write_index(folder: Path, files: TensorFiles, moves: Collection[str]) -> None:
    """Write the index of the files that hold the tensors of ``moves``, if the input has one."""
    if files.index is None:
        return
    index = dict(files.index)
    index["weight_map"] = {n: file for n, file in index["weight_map"].items() if n in moves}
    if "total_size" in index.get("metadata", {}):
        total = sum(tensor.size for name, tensor in files.tensors.items() if name in moves)
        index["metadata"] = {**index["metadata"], "total_size": total}
    with replacing(folder / files.index_file) as temporary:
        temporary.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


class _Written(NamedTuple):
    """A file that has its content; it appears when ``place`` is closed."""

    place: contextlib.ExitStack
    digest: str


def _write(target: Path, file: TensorFile, parts: Iterable[Tensor]) -> _Written:
    """Write the content of one file, with its SHA-256."""
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(replacing(target))
        with temporary.open("wb") as out:

            def put(data: Any) -> None:
                digest.update(data)
                out.write(data)

            put(_header(file))
            for part in parts:
                put(part.contiguous().flatten().view(torch.uint8).numpy())
        return _Written(stack.pop_all(), digest.hexdigest())


def _header(file: TensorFile) -> bytes:
    content: dict[str, Any] = {"__metadata__": dict(sorted(file.metadata.items()))}
    content = content if file.metadata else {}
    start = 0
    for name, tensor in file.tensors.items():
        stop = start + tensor.size
        content[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _joined(files: TensorFiles) -> TensorFile:
    """All tensors as those of one file."""
    first = next(iter(files.files.values()))
    return TensorFile(first.path, files.tensors, first.metadata)


def _hash(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
