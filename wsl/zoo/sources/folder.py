"""A folder of checkpoint files at any depth, one state dict each.

They end in .pt, .pth, .ckpt, .bin, .safetensors or .npz. Every file is a member of its own at epoch
0, in natural order of their names, unless something says otherwise: metadata inside the file
(``member``, ``epoch``), a ``table.csv`` beside it with a column ``file``, or a ``pattern`` with
named groups: ``r"run(?P<member>\\d+)/epoch_(?P<epoch>\\d+)"``; other groups become columns.
Nothing is guessed from names unasked.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from wsl.base import did_you_mean
from wsl.zoo.file import SPLITS, ZooError
from wsl.zoo.reading import SUFFIXES, read_checkpoint
from wsl.zoo.sources.checkpoint import (
    Checkpoint,
    Skipped,
    Source,
    attempt,
    flatten,
    natural,
    value_of,
)
from wsl.zoo.sources.files import checkpoint_files, is_hidden, walk

_HDF5 = (".hdf5", ".h5", ".hdf")
_NOTES = (
    "spec",
    "architecture",
    "columns",
    "buffers",
    "dtype",
    "provenance",
    "record",
    "task",
    "zoo",
    "row",
)
"""What `wsl.zoo.export` notes besides the columns."""


def folder(path: str | Path, *, pattern: str | None = None) -> Source:
    """The checkpoints below ``path``, or the single file ``path``.

    A ``pattern`` that names the epoch and not the member makes the files of one run, whose names
    differ in the epoch only, one member.
    """
    root = Path(path)
    if root.is_file():
        yield from _from_files(root.parent, [root], pattern)
        return
    files, skipped = checkpoint_files(root, SUFFIXES)
    if not files:
        raise ZooError(
            f"{root}: has no checkpoints; files ending in {', '.join(SUFFIXES)} are looked for"
        )
    yield from skipped
    yield from _other_kinds(root)
    for place in dict.fromkeys(file.parent for file in files):
        yield from _table_notes(place / "table.csv", {f.name for f in files if f.parent == place})
    yield from _from_files(root, files, pattern)


def _from_files(root: Path, files: Iterable[Path], pattern: str | None) -> Source:
    """The checkpoints ``files`` below ``root``, in this order."""
    table = functools.cache(_table)
    runs: dict[str, int] = {}
    for number, file in enumerate(files):
        origin = file.relative_to(root).as_posix()
        lines = table(file.parent / "table.csv")
        about = lines.get(file.name, {}) | _groups(pattern, origin, runs)
        yield attempt(origin, functools.partial(_read, file, number, about=about, origin=origin))


def _other_kinds(root: Path) -> Iterator[Skipped]:
    """Files that hold weights of another kind."""
    for file in natural(walk(root)):
        if file.suffix in _HDF5 and not is_hidden(file, root):
            origin = file.relative_to(root).as_posix()
            yield Skipped(origin, f"{origin}: is HDF5; it is read with --kind flat-hdf5")


def _read(file: Path, number: int, *, about: Mapping[str, Any], origin: str) -> Checkpoint:
    params, inside = read_checkpoint(file)
    exported = "record" in inside and "columns" in inside
    if exported:  # it says all that its zoo said of it
        found = _record(origin, inside["record"])
    else:
        found = {**{name: _value(said) for name, said in inside.items()}, **about}
    member, epoch = (
        _place(origin, name, found.pop(name, default))
        for name, default in (("member", number), ("epoch", 0))
    )
    split = {"split": found.pop("split")} if found.get("split") in SPLITS else {}
    notes = {name: inside[name] for name in _NOTES if name in inside} if exported else {}
    return Checkpoint(member, epoch, params, {**flatten(found), **split}, origin, notes)


def _value(said: Any) -> Any:
    return value_of(said) if isinstance(said, str) else said


def _record(origin: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ZooError(
            f"{origin}: its note 'record' is not a JSON object; the file was not written by "
            "wsl.zoo.export"
        )
    return content


def _place(origin: str, name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ZooError(
            f"{origin}: {name} is {value!r}; a whole number from 0 to 2^31-1 is required"
        )
    return value


def _groups(pattern: str | None, origin: str, runs: dict[str, int]) -> dict[str, Any]:
    """What ``pattern`` finds in the name; ``runs`` numbers the names without their epoch."""
    if pattern is None:
        return {}
    try:
        found = re.search(pattern, origin)
    except re.error as error:
        raise ZooError(f"pattern {pattern!r}: is no regular expression ({error})") from None
    if found is None:
        raise ZooError(f"{origin}: does not match the pattern {pattern!r}")
    groups = {name: text for name, text in found.groupdict().items() if text is not None}
    values = {name: value_of(text) for name, text in groups.items()}
    if "epoch" in groups and "member" not in groups:
        start, end = found.span("epoch")
        run = origin[:start] + "*" + origin[end:]
        values["member"] = runs.setdefault(run, len(runs))
    return values


def _table(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of a ``table.csv`` by their column ``file``; nothing if there is none."""
    return {
        line["file"]: {
            key: value_of(text)
            for key, text in line.items()
            if key not in ("file", "row", None) and text
        }
        for line in _lines(path)
        if line.get("file")
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    """As Excel writes them too: with a byte-order mark, or with semicolons."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            return list(csv.DictReader(file, delimiter="," if "," in head else ";"))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: is not a readable table ({error})") from None


def _table_notes(path: Path, names: Set[str]) -> Iterator[Skipped]:
    """What of a ``table.csv`` is not used: nothing may be lost in silence."""
    lines = _lines(path)
    said = [line["file"] for line in lines if line.get("file")]
    if lines and not said:
        yield Skipped(path.name, f"{path}: has no column 'file', so that it is not used")
    if unknown := [name for name in said if name not in names]:
        hint = did_you_mean(unknown[0], names)
        yield Skipped(
            path.name,
            f"{path}: {len(unknown)} of its lines are of no checkpoint here, such as "
            f"{unknown[0]!r}{hint}",
        )
