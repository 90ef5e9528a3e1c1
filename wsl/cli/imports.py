"""What ``wsl zoo import`` says of an import: what became of every file, a line per reason."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsl.cli.results import write_json
from wsl.cli.terminal import say
from wsl.zoo import Imported, sources

_ALONE = 3
"""Files of one reason that are named in lines of their own; of more the first are."""


def tell_left_out(results: Sequence[Imported], files: Sequence[sources.FileOutcome]) -> None:
    """Say on stderr what was refused and left out, and how many files hold no weights."""
    reasons: dict[str, list[sources.Refused | sources.Skipped]] = {}
    for item in (*results[0].refused, *results[0].skipped):
        reasons.setdefault(sources.bare(item.reason, item.origin), []).append(item)
    for reason, items in reasons.items():
        if len(items) <= _ALONE:
            for item in items:
                say(f"left out: {item.reason}", error=True)
        else:
            named = ", ".join(item.origin for item in items[:_ALONE])
            more = f"{len(items)} files, {named} and {len(items) - _ALONE} more"
            say(f"left out: {more}: {reason}", error=True)
    _tell_rest(results, files)


def _tell_rest(results: Sequence[Imported], files: Sequence[sources.FileOutcome]) -> None:
    """Files that no line has named yet."""
    said = {
        file
        for item in (*results[0].refused, *results[0].skipped)
        for file in item.files or (item.origin,)
    }
    for file in files:
        if file.outcome == "left out" and file.file not in said:
            say(f"left out: {file.file}: {file.reason}", error=True)
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


def write_report(
    path: Path,
    source: str,
    kind: str,
    *,
    results: Sequence[Imported],
    files: Sequence[sources.FileOutcome],
) -> None:
    """Write the outcome of every file, and what the zoos hold, as JSON."""
    zoos = {
        result.zoo.path.name: {
            "checkpoints": len(result.zoo),
            "tensors": len(result.zoo.shapes),
            "values": sum(shape.numel() for shape in result.zoo.shapes.values()),
            "specification": result.specification,
            "notes": list(result.notes),
            "columns_left_out": dict(result.left_out),
        }
        for result in results
    }
    counts = dict(sorted(collections.Counter(file.outcome for file in files).items()))
    about = {"source": source, "kind": kind, "zoos": zoos, "counts": counts}
    write_json(path, {**about, "files": [file.to_json() for file in files]})
