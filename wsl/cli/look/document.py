"""What the page holds: columns of all rows, and a section for each architecture.

The rows of an architecture follow each other, from ``start`` to ``end``; everything in a section
counts from its first row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import wsl
from wsl.cli.look.columns import described, joined
from wsl.cli.look.embed import embeddings
from wsl.cli.look.encode import encoded
from wsl.cli.look.files import Weights, same_kind
from wsl.cli.look.section import measured, section
from wsl.cli.look.shown import Limits, Shown
from wsl.diagnostics import PopulationHealth, sample_rows
from wsl.zoo import Checkpoints, concatenate

_VALUES = 1 << 27
"""Weights that are held at a time: half a GiB in float32, and some copies."""


def document(zoos: Sequence[Checkpoints], limits: Limits, *, run: str | None) -> dict[str, Any]:
    """The content of the page for these zoos; ``run`` is a functional whose embeddings are a map.

    Raises `ConfigError` for a functional that fits none of the zoos.
    """
    alike = same_kind(zoos)
    parts = _parts([sum(len(zoos[i]) for i in numbers) for numbers in alike], limits.rows)
    kinds = [_Kind.of(zoos, n, limits, most=m) for n, m in zip(alike, parts, strict=True)]
    embedded = _embedded(run, kinds)
    ends = np.cumsum([len(kind.shown.zoo) for kind in kinds]).tolist()
    sections = [
        {
            "name": kind.name,
            "start": start,
            "end": end,
            **section(kind.shown, kind.health, seen),
        }
        for kind, start, end, seen in zip(kinds, [0, *ends], ends, embedded, strict=False)
    ]
    columns, constants = described(joined([kind.columns for kind in kinds]))
    return {
        "title": ", ".join(_names(zoos)),
        "version": wsl.__version__,
        "rows": ends[-1],
        "total": sum(map(len, zoos)),
        "columns": columns,
        "constants": constants,
        "track": encoded(_tracks(kinds), "i4"),
        "sections": sections,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class _Kind:
    """The shown rows of one architecture: their weights, columns and health."""

    name: str
    shown: Shown
    columns: dict[str, np.ndarray]
    health: PopulationHealth

    @classmethod
    def of(
        cls, zoos: Sequence[Checkpoints], numbers: Sequence[int], limits: Limits, *, most: int
    ) -> _Kind:
        """Draw the rows of these of the zoos, at most so many."""
        names = _names(zoos)
        files, name = [zoos[i] for i in numbers], " + ".join(names[i] for i in numbers)
        whole = concatenate([Weights(zoo) for zoo in files])
        held = max(1, _VALUES // whole.header.layout.size)
        rows = sample_rows(whole, min(most, held), seed=limits.seed)
        shown = Shown(whole.subset(rows), limits, [])
        if len(rows) < len(whole):
            told = f"{len(rows):,} of {len(whole):,} checkpoints are shown, those of some members"
            shown.note(f"{told}, drawn at random; --rows N shows more")
        parts = [_table(zoo) for zoo in files]
        if len(zoos) > 1:
            for part, i in zip(parts, numbers, strict=True):
                part["file"] = np.full(len(part["member"]), names[i])
        known = {column: values[rows] for column, values in joined(parts).items()}
        health, more = measured(shown.zoo)
        return cls(name, shown, known | more, health)


def _table(zoo: Checkpoints) -> dict[str, np.ndarray]:
    return {name: zoo.table[name] for name in zoo.table.dtype.names or ()}


def _names(zoos: Sequence[Checkpoints]) -> list[str]:
    """Names of the files; their paths where two have the same."""
    names = [Path(zoo.path).stem for zoo in zoos]
    return [n if names.count(n) == 1 else str(z.path) for n, z in zip(names, zoos, strict=True)]


def _parts(counts: Sequence[int], most: int) -> list[int]:
    """How many rows of each architecture are shown: the small ones whole, equal parts of others."""
    parts, left = [0] * len(counts), most
    for place, i in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        parts[i] = max(1, min(counts[i], left // (len(counts) - place)))
        left -= parts[i]
    return parts


def _tracks(kinds: Sequence[_Kind]) -> np.ndarray:
    """A number for each member, the same for all of its checkpoints."""
    pairs = [(i, member) for i, k in enumerate(kinds) for member in k.shown.zoo.table["member"]]
    return np.unique(np.array(pairs), axis=0, return_inverse=True)[1].ravel()


def _embedded(run: str | None, kinds: Sequence[_Kind]) -> list[Tensor | None]:
    """Embeddings of each architecture that the functional reads."""
    if run is None:
        return [None] * len(kinds)
    found: list[Tensor | None] = []
    errors: list[ValueError] = []
    for kind in kinds:
        try:
            found.append(embeddings(run, kind.shown.zoo))
        except ValueError as error:
            found.append(None)
            errors.append(error)
            kind.shown.note("embeddings: the functional is of another architecture")
    if len(errors) == len(kinds):
        raise errors[0]
    return found
