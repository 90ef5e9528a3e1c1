"""What ``wsl zoo import`` says of an import: what became of every file, a line per reason."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsl.cli.terminal import say
from wsl.zoo import Imported, sources

_ALONE = 3
"""Files of one reason that are named in lines of their own; of more the first are."""
_LeftOut = sources.Refused | sources.Skipped


def tell_left_out(results: Sequence[Imported], files: Sequence[sources.FileOutcome]) -> None:
    """Say on stderr what was refused and left out, and how many files hold no weights."""
    items = (*results[0].refused, *results[0].skipped)
    reasons: dict[str, list[_LeftOut]] = {}
    for item in items:
        reasons.setdefault(sources.bare(item.reason, item.origin), []).append(item)
    for reason, alike in reasons.items():
        _tell_reason(reason, alike)
    said = {file for item in items for file in item.files or (item.origin,)}
    for file in files:
        if file.outcome == "left out" and file.file not in said:
            say(f"left out: {file.file}: {file.reason}", error=True)
    _tell_plain(files)


def _tell_reason(reason: str, items: Sequence[_LeftOut]) -> None:
    """A line for each item, or one for many that were left out for the same reason."""
    if len(items) <= _ALONE:
        for item in items:
            say(f"left out: {item.reason}", error=True)
        return
    named = ", ".join(item.origin for item in items[:_ALONE])
    more = f"{len(items)} files, {named} and {len(items) - _ALONE} more"
    say(f"left out: {more}: {reason}", error=True)


def _tell_plain(files: Sequence[sources.FileOutcome]) -> None:
    """One line on the files without weights, by their endings."""
    plain = [
        Path(file.file).suffix or "no ending" for file in files if file.outcome == "no weights"
    ]
    if plain:
        counts = collections.Counter(plain).most_common()
        told = ", ".join(f"{count} {ending}" for ending, count in counts)
        say(f"not read: {len(plain)} files without weights ({told})", error=True)


def tell(result: Imported, *, several: bool) -> None:
    """Say on stderr what was done to the members of one zoo; ``several``: name the zoo."""
    where = f"{result.zoo.path.name}: " if several else ""
    for note in result.notes:
        say(f"note: {where}{note}", error=True)
    for name, reason in result.left_out.items():
        say(f"column left out: {where}{name}: {reason}", error=True)


def tell_epochs(result: Imported) -> None:
    """Say if every member has one checkpoint, of different epochs: it may be one run's."""
    members, epochs = (result.zoo.table[name] for name in ("member", "epoch"))
    if len(np.unique(members)) == len(members) and len(np.unique(epochs)) > 1:
        say(
            f"note: each member has one checkpoint, of epochs {epochs.min()} to {epochs.max()}; if "
            r"some are of one run, --pattern 'NAME(?P<epoch>\d+)' makes them one member",
            error=True,
        )


def report(
    source: str,
    kind: str,
    *,
    results: Sequence[Imported],
    files: Sequence[sources.FileOutcome],
) -> dict[str, Any]:
    """The outcome of every file, and what the zoos hold, as a document."""
    zoos = {result.zoo.path.name: _contents(result) for result in results}
    counts = dict(sorted(collections.Counter(file.outcome for file in files).items()))
    about = {"source": source, "kind": kind, "zoos": zoos, "counts": counts}
    return {**about, "files": [file.to_json() for file in files]}


def _contents(result: Imported) -> dict[str, Any]:
    return {
        "checkpoints": len(result.zoo),
        "tensors": len(result.zoo.shapes),
        "values": sum(shape.numel() for shape in result.zoo.shapes.values()),
        "specification": result.specification,
        "notes": list(result.notes),
        "columns_left_out": dict(result.left_out),
    }
