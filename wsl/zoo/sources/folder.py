"""A folder of checkpoint files: .pt, .pth, .ckpt, .bin, .safetensors and .npz, one state dict each,
at any depth.

Every file is a member of its own at epoch 0, in natural order of their names, unless something says
otherwise: metadata inside the file (``member``, ``epoch``), a ``table.csv`` beside it with a column
``file``, or a ``pattern`` with named groups: ``r"run(?P<member>\\d+)/epoch_(?P<epoch>\\d+)"``;
other groups become columns. Nothing is guessed from names unasked.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsl.zoo.file import SPLITS, ZooError
from wsl.zoo.reading import SUFFIXES, has_suffix, is_copy, read_checkpoint
from wsl.zoo.sources.checkpoint import Checkpoint, Source, attempt, flatten, natural, value_of

_PLACES = ("member", "epoch")
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
    tables: dict[Path, Mapping[str, Mapping[str, Any]]] = {}
    for number, file in enumerate(files):
        origin = file.relative_to(root).as_posix()
        if file.parent not in tables:
            tables[file.parent] = _table(file.parent / "table.csv")
        about = {**tables[file.parent].get(file.name, {}), **_groups(pattern, origin)}
        yield attempt(
            origin,
            lambda number=number, file=file, about=about, origin=origin: _read(
                number, file, about, origin
            ),
        )


def _read(number: int, file: Path, about: Mapping[str, Any], origin: str) -> Checkpoint:
    params, inside = read_checkpoint(file)
    exported = "record" in inside and "columns" in inside
    if exported:
        found = _record(origin, inside["record"])
    else:
        found = {
            **{
                key: value_of(value) if isinstance(value, str) else value
                for key, value in inside.items()
            },
            **about,
        }
    member, epoch = (
        _place(origin, key, found.pop(key, default))
        for key, default in zip(_PLACES, (number, 0), strict=True)
    )
    split = {"split": found.pop("split")} if found.get("split") in SPLITS else {}
    notes = {key: inside[key] for key in _NOTES if key in inside} if exported else {}
    return Checkpoint(member, epoch, params, {**flatten(found), **split}, origin, notes)


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
