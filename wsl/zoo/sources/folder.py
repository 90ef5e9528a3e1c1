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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsl.zoo.file import SPLITS, ZooError
from wsl.zoo.reading import SUFFIXES, has_suffix, is_copy, read_checkpoint
from wsl.zoo.sources.checkpoint import Checkpoint, Source, attempt, flatten, natural, value_of

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
    """The checkpoints below ``path``, or the single file ``path``."""
    root = Path(path)
    files = natural(
        [root]
        if root.is_file()
        else (f for f in root.rglob("*") if has_suffix(f) and not is_copy(f, root))
    )
    if not files:
        raise ZooError(
            f"{root}: has no checkpoints; files ending in {', '.join(SUFFIXES)} are looked for"
        )
    return from_files(root.parent if root.is_file() else root, files, pattern=pattern)


def from_files(root: Path, files: Iterable[Path], *, pattern: str | None = None) -> Source:
    """The checkpoints ``files`` below ``root``, in this order."""
    table = functools.cache(_table)
    for number, file in enumerate(files):
        origin = file.relative_to(root).as_posix()
        about = table(file.parent / "table.csv").get(file.name, {}) | _groups(pattern, origin)
        yield attempt(origin, functools.partial(_read, file, number, about=about, origin=origin))


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


def _groups(pattern: str | None, origin: str) -> dict[str, Any]:
    if pattern is None:
        return {}
    try:
        found = re.search(pattern, origin)
    except re.error as error:
        raise ZooError(f"pattern {pattern!r}: is no regular expression ({error})") from None
    if found is None:
        raise ZooError(f"{origin}: does not match the pattern {pattern!r}")
    return {name: value_of(text) for name, text in found.groupdict().items() if text is not None}


def _table(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of a ``table.csv`` by their column ``file``; nothing if there is none."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: is not a readable table ({error})") from None
    return {
        line["file"]: {
            key: value_of(text)
            for key, text in line.items()
            if key not in ("file", "row", None) and text
        }
        for line in lines
        if line.get("file")
    }
