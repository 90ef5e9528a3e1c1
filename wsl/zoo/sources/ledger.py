"""What became of every file of a source: the ledger that an import is checked against.

imported        a member was read from it
refused         it could not be read, or did not fit
left out        it is no checkpoint of its own, of another kind, or of another architecture
columns         a table.csv that tells of the members beside it
no weights      nothing in its name or its first bytes says that it holds any
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsl.zoo.reading import foreign, has_suffix, is_copy
from wsl.zoo.sources.checkpoint import Refused, Skipped, natural
from wsl.zoo.sources.files import PLAIN, walk
from wsl.zoo.sources.importer import Imported


class FileOutcome(NamedTuple):
    """One file, what became of it, and why; or the zoo, with (member, epoch) of what it gave."""

    file: str
    outcome: str
    reason: str = ""
    zoo: str = ""
    members: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that say nothing."""
        found = {name: value for name, value in self._asdict().items() if value}
        return {**found, "members": list(map(list, self.members))} if self.members else found


def account(root: str | Path, results: Sequence[Imported]) -> list[FileOutcome]:
    """The outcome of each file below ``root``, or of the one file ``root``, in natural order.

    ``results`` are those of one import. Every file has one outcome: what was imported comes before
    what was refused, and that before what was left out. The zoos that it wrote are not of the
    source. What lies at no path, a repository of the hub, has the files that the import names.
    """
    root = Path(root)
    found = {each.file: each for each in _known(results)}
    made = {result.zoo.path.resolve() for result in results}
    if root.is_dir():
        for file in walk(root):
            name = file.relative_to(root).as_posix()
            if name not in found and file.resolve() not in made:
                found[name] = _table(file, root, found) or _other(file, root, name)
    return [found[path.as_posix()] for path in natural(map(Path, found))]


def _known(results: Sequence[Imported]) -> Iterator[FileOutcome]:
    """What the import itself says, the strongest last."""
    yield from _left_out(results[0].skipped, "left out")
    yield from _left_out(results[0].refused, "refused")
    places: dict[str, list[tuple[int, int]]] = {}
    for result in results:
        places.clear()
        for place, files in result.files.items():
            for file in files:
                places.setdefault(file, []).append(place)
        for file, members in places.items():
            yield FileOutcome(file, "imported", zoo=result.zoo.path.name, members=tuple(members))


def _left_out(items: Iterable[Refused | Skipped], outcome: str) -> Iterator[FileOutcome]:
    for item in items:
        for file in item.files or (item.origin,):
            yield FileOutcome(file, outcome, bare(item.reason, item.origin))


def bare(reason: str, origin: str) -> str:
    """``reason`` without the name of the file that it begins with."""
    before, found, after = reason.partition(f"{origin}: ")
    return after if found and " " not in before else reason


def _table(file: Path, root: Path, found: Mapping[str, FileOutcome]) -> FileOutcome | None:
    """A ``table.csv`` beside a file that was imported, which the reader of folders has read."""
    beside = {(root / each.file).parent for each in found.values() if each.outcome == "imported"}
    used = file.name == "table.csv" and file.parent in beside
    name = file.relative_to(root).as_posix()
    return FileOutcome(name, "columns", "tells of the files beside it") if used else None


def _other(file: Path, root: Path, name: str) -> FileOutcome:
    """A file that no reader mentioned."""
    if is_copy(file, root) and has_suffix(file):
        return FileOutcome(name, "left out", "is a hidden copy")
    if file.suffix.lower() in PLAIN or is_copy(file, root) or not file.is_file():
        return FileOutcome(name, "no weights", "is no checkpoint by its name")
    told = "lies beside what was read" if has_suffix(file) else foreign(file)
    if told:
        return FileOutcome(name, "left out", told)
    return FileOutcome(name, "no weights", "is no checkpoint by its name and first bytes")
