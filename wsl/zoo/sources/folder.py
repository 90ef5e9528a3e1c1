"""A folder of checkpoint files at any depth, one state dict each.

They end in .pt, .pth, .ckpt, .bin, .safetensors or .npz. Every file is a member of its own at epoch
0, in natural order of their names, unless something says otherwise: metadata inside the file
(``member``, ``epoch``), a ``table.csv`` beside it with a column ``file``, or a ``pattern`` with
named groups: ``r"run(?P<member>\\d+)/epoch_(?P<epoch>\\d+)"``; other groups become columns.
Nothing is guessed from names alone: files that differ in their epoch are one member unasked only
where the name has the epoch that the file states (``epoch=3-step=80.ckpt``).
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

from wsl.base import did_you_mean
from wsl.zoo.file import SPLITS, ZooError
from wsl.zoo.reading import SUFFIXES, FoundCheckpoint, WeightSet, has_suffix, open_checkpoint
from wsl.zoo.sources.checkpoint import (
    Checkpoint,
    Refused,
    Skipped,
    Source,
    attempt,
    flatten,
    sourced,
    value_of,
)
from wsl.zoo.sources.files import checkpoint_files, walk

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
_EPOCH = re.compile(r"(?i)(?<![a-z])ep(?:och)?[=_-]?(\d{1,9})(?!\d|\.\d)")
_SCORES = re.compile(
    r"(?i)((?:^|[^a-z])(?:step|iter|\w*(?:loss|acc|accuracy|auc|f1|iou|mae|mse|psnr|score|error))"
    r"[=_-]?)\d+(?:\.\d+)?"
)
_FURTHER = "are further epochs of a run: their names and the files say the same epoch"


def folder(path: str | Path, *, pattern: str | None = None, entry: str | None = None) -> Source:
    """The checkpoints below ``path``, or the single file ``path``.

    A ``pattern`` that names the epoch and not the member makes the files of one run, whose names
    differ in the epoch only, one member. ``entry`` names the set of weights to read where files
    hold several; a list of state dicts is a member each.
    """
    root = Path(path)
    reading = _Reading(pattern, entry)
    if root.is_file():
        yield from reading.files(root.parent, [root])
        return
    found = list(walk(root))
    if not any(has_suffix(file) for file in found):
        raise ZooError(
            f"{root}: has no checkpoints; files ending in {', '.join(SUFFIXES)} are looked for"
        )
    yield from read_files(root, found, pattern=pattern, entry=entry)


def read_files(
    root: Path, found: Iterable[Path], *, pattern: str | None = None, entry: str | None = None
) -> Source:
    """The checkpoints among the files ``found`` below ``root``."""
    files, skipped = checkpoint_files(root, found)
    yield from skipped
    for place in dict.fromkeys(file.parent for file in files):
        yield from _table_notes(place / "table.csv", {f.name for f in files if f.parent == place})
    yield from _Reading(pattern, entry).files(root, files)


class _Reading:
    """How files become members, and what was given so far."""

    def __init__(self, pattern: str | None, entry: str | None) -> None:
        self.pattern, self.entry = pattern, entry
        self.table = functools.cache(_table)
        self.runs: dict[str, int] = {}
        self.told: dict[str, int] = {}
        self.lists = 0

    def files(self, root: Path, files: Iterable[Path]) -> Source:
        """The checkpoints ``files`` below ``root``, in this order."""
        for number, file in enumerate(files):
            origin = file.relative_to(root).as_posix()
            about = self.table(file.parent / "table.csv").get(file.name, {})
            about = about | _groups(self.pattern, origin, self.runs)
            yield from self._file(_File(root, file, number + self.lists, origin, about, self.told))

    def _file(self, file: _File) -> Source:
        """The members that one file holds: one, or as many as its list."""
        try:
            found = open_checkpoint(file.path)
            is_list = self.entry is None and bool(found.content.listed)
            chosen = None if is_list else found.content.choose(str(file.path), self.entry)
        except ZooError as error:
            yield Refused(file.origin, str(error), (file.origin,))
            return
        if chosen is None:
            yield from self._list(file, found)
            return
        weights, notes = chosen
        file = file._replace(remarks=(*found.notes, *notes))
        read = functools.partial(file.checkpoint, weights, found.metadata)
        yield attempt(file.origin, read, file.origin)

    def _list(self, file: _File, found: FoundCheckpoint) -> Source:
        """The members of a list of state dicts."""
        file = file._replace(remarks=(*found.notes, *found.content.beside(str(file.path))))
        listed = found.content.listed
        for place, each in enumerate(listed):
            read = functools.partial(file.listed, each, place)
            yield attempt(f"{file.origin} {each.name}", read, file.origin)
        self.lists += len(listed) - 1


class _File(NamedTuple):
    """A file, its number among the members, its name in messages, and what is said beside it."""

    root: Path
    path: Path
    number: int
    origin: str
    about: Mapping[str, Any]
    runs: dict[str, int]
    remarks: tuple[str, ...] = ()

    def listed(self, weights: WeightSet, place: int) -> Checkpoint:
        """The member that is the ``place``-th of a list of state dicts."""
        file = self._replace(
            origin=f"{self.origin} {weights.name}",
            number=self.number + place,
            about={**self.about, "entry": weights.name},
        )
        return file.checkpoint(weights, weights.about)

    def checkpoint(self, weights: WeightSet, inside: Mapping[str, Any]) -> Checkpoint:
        """The member made of one set of weights and of what the file has ``inside`` beside it."""
        said, notes = self._said(inside)
        epoch = _place(self.origin, "epoch", said.pop("epoch", 0))
        number = self.number if "member" in said else self._member_of(epoch)
        member = _place(self.origin, "member", said.pop("member", number))
        remarks = self.remarks if number == self.number else (*self.remarks, _FURTHER)
        split = {"split": said.pop("split")} if said.get("split") in SPLITS else {}
        about = {**flatten(said), **split}
        origin = self.origin
        return Checkpoint(member, epoch, weights.params, about, origin, notes, remarks=remarks)

    def _member_of(self, epoch: int) -> int:
        """The number of the first file of its run, or its own if it is of none."""
        run = None if "epoch" in self.about else _run(self.origin, epoch)
        return self.number if run is None else self.runs.setdefault(run, self.number)

    def _said(self, inside: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """All that is said of the member, and the notes of the zoo that it was exported from."""
        if "record" in inside and "columns" in inside:  # it says all that its zoo said of it
            notes = {name: inside[name] for name in _NOTES if name in inside}
            return _record(self.origin, inside["record"]), notes
        file = self.path.relative_to(self.root).as_posix()
        return sourced({**_stated(inside), **self.about}, self.root, [file]), {}


def _stated(inside: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of itself; a member or an epoch that is no whole number is a column."""
    values = {name: _value(value) for name, value in inside.items()}
    for name in ("member", "epoch"):
        value = values.get(name)
        if isinstance(value, float) and value.is_integer():
            values[name] = value = int(value)
        if name in values and not _is_place(value):
            values[f"source_{name}"] = values.pop(name)
    return values


def _run(origin: str, epoch: int) -> str | None:
    """The name of the run that a file is an epoch of, if name and file say the same epoch.

    Trainers write what differs between its epochs into the name as well: steps and scores.
    """
    found = _EPOCH.search(origin)
    if found is None or int(found[1]) != epoch:
        return None
    return _SCORES.sub(r"\1*", _EPOCH.sub("*", origin, count=1))


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


def _is_place(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _place(origin: str, name: str, value: Any) -> int:
    if not _is_place(value):
        raise ZooError(
            f"{origin}: {name} is {value!r}; a whole number from 0 to 2^31-1 is required"
        )
    return value


def _groups(pattern: str | None, origin: str, runs: dict[str, int]) -> dict[str, Any]:
    """What ``pattern`` finds in the name; ``runs`` numbers the names without their epoch."""
    if pattern is None:
        return {}
    found = _searched(pattern, origin)
    groups = {name: text for name, text in found.groupdict().items() if text is not None}
    values = {name: value_of(text) for name, text in groups.items()}
    if "epoch" in groups and "member" not in groups:
        start, end = found.span("epoch")
        run = origin[:start] + "*" + origin[end:]
        values["member"] = runs.setdefault(run, len(runs))
    return values


def _searched(pattern: str, origin: str) -> re.Match[str]:
    """Where the name has what ``pattern`` describes; raises `ZooError` if nowhere."""
    try:
        found = re.search(pattern, origin)
    except re.error as error:
        raise ZooError(f"pattern {pattern!r}: is no regular expression ({error})") from None
    if found is None:
        raise ZooError(f"{origin}: does not match the pattern {pattern!r}")
    return found


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
