"""The solutions of homogeneous linear equations, over the rational numbers or modulo two, in a
basis of short rows.

    kernel(A) = {x : A x = 0}
    minimal span: no two rows begin, nor end, at the same column

The minimal-span form of a space (Kschischang & Sorokine, 1995, use it for trellises) has rows as
local as they can be: each couples unknowns that follow each other in the order of the columns, so
that the symmetries before and after a normalization come out apart. A row of x is a dict without
zeros. Exact: integers and fractions, no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

LinearForm = dict[int, Fraction]


def plus(
    a: Mapping[int, Fraction], b: Mapping[int, Fraction], factor: Fraction | int = 1
) -> LinearForm:
    """a + factor b."""
    total = dict(a)
    for column, value in b.items():
        total[column] = total.get(column, Fraction(0)) + factor * value
    return {column: value for column, value in total.items() if value}


def kernel(
    equations: Iterable[Mapping[int, Fraction]], columns: Sequence[int], *, modulo: int = 0
) -> list[LinearForm]:
    """A basis of all x with A x = 0, in minimal-span form for the order of ``columns``."""
    order = {column: i for i, column in enumerate(columns)}
    pivots = _reduced((_field(row, modulo) for row in equations), order, modulo)
    free = [column for column in columns if column not in pivots]
    basis = [
        {column: Fraction(1)}
        | {pivot: -row[column] for pivot, row in pivots.items() if column in row}
        for column in free
    ]
    return _minimal_span([_field(row, modulo) for row in basis], order, modulo)


def independent(
    rows: Iterable[LinearForm], of: Iterable[LinearForm], *, modulo: int = 0
) -> list[LinearForm]:
    """Rows that are no combination of those kept before them and of the rows ``of``."""
    pivots: dict[int, LinearForm] = {}
    kept: list[LinearForm] = []
    for row, keep in [*((row, False) for row in of), *((row, True) for row in rows)]:
        rest = _against(_field(row, modulo), pivots, modulo)
        if rest:
            _insert(pivots, rest, min(rest), modulo=modulo)
            kept += [row] * keep
    return kept


def remainder(
    row: LinearForm, rows: Iterable[LinearForm], columns: Sequence[int], *, modulo: int = 0
) -> LinearForm:
    """The row plus a combination of others, with zeros in as many of the first columns as can
    be.
    """
    order = {column: -i for i, column in enumerate(columns)}
    return _against(
        _field(row, modulo),
        _reduced((_field(other, modulo) for other in rows), order, modulo),
        modulo,
    )


def integers(row: LinearForm) -> dict[int, int]:
    """The same direction with coprime integers."""
    scale = math.lcm(*(value.denominator for value in row.values()))
    whole = {column: int(value * scale) for column, value in row.items()}
    return {column: value // math.gcd(*whole.values()) for column, value in whole.items()}


def _field(row: Mapping[int, Fraction], modulo: int) -> LinearForm:
    if not modulo:
        return {column: value for column, value in row.items() if value}
    return {column: Fraction(1) for column, value in row.items() if value % modulo}


def _reduced(
    rows: Iterable[LinearForm], order: Mapping[int, int], modulo: int
) -> dict[int, LinearForm]:
    """Reduced echelon form by pivot, which is the last column of each row, so that unknowns are
    given by those before them.
    """
    pivots: dict[int, LinearForm] = {}
    for row in rows:
        rest = _against(row, pivots, modulo)
        if rest:
            _insert(pivots, rest, max(rest, key=order.__getitem__), modulo=modulo)
    return pivots


def _against(row: LinearForm, pivots: Mapping[int, LinearForm], modulo: int) -> LinearForm:
    for pivot in [column for column in row if column in pivots]:
        row = _field(plus(row, pivots[pivot], -row[pivot]), modulo)
    return row


def _insert(pivots: dict[int, LinearForm], row: LinearForm, pivot: int, *, modulo: int) -> None:
    row = {column: value / row[pivot] for column, value in row.items()}
    for other, old in pivots.items():
        if pivot in old:
            pivots[other] = _field(plus(old, row, -old[pivot]), modulo)
    pivots[pivot] = row


def _minimal_span(
    rows: list[LinearForm], order: Mapping[int, int], modulo: int
) -> list[LinearForm]:
    """Rows of the same space with distinct first columns, distinct last ones, and short spans."""
    span = _Span(order, modulo)
    rows = _shortened(_distinct_ends(_distinct_starts(rows, span), span), span)
    return [{column: row[column] for column in sorted(row, key=order.__getitem__)} for row in rows]


class _Span(NamedTuple):
    """Where rows begin and end in an order of columns, and elimination of one column."""

    order: Mapping[int, int]
    modulo: int

    def first(self, row: LinearForm) -> int:
        return min(row, key=self.order.__getitem__)

    def last(self, row: LinearForm) -> int:
        return max(row, key=self.order.__getitem__)

    def cleared(self, row: LinearForm, by: LinearForm, column: int) -> LinearForm:
        if column not in row:
            return row
        return _field(plus(row, by, -row[column] / by[column]), self.modulo)


def _distinct_starts(rows: list[LinearForm], span: _Span) -> list[LinearForm]:
    """Gaussian elimination by first columns, in their order."""
    pivots: dict[int, LinearForm] = {}
    for row in rows:
        rest = _against(row, pivots, span.modulo)
        _insert(pivots, rest, span.first(rest), modulo=span.modulo)
    return [pivots[column] for column in sorted(pivots, key=span.order.__getitem__)]


def _distinct_ends(rows: list[LinearForm], span: _Span) -> list[LinearForm]:
    """Of two rows that end together the one that begins first is made to end earlier."""
    while True:
        ends = [span.last(row) for row in rows]
        pairs = ((i, j) for j in range(len(rows)) for i in range(j))
        clash = next(((i, j) for i, j in pairs if ends[i] == ends[j]), None)
        if clash is None:
            return rows
        i, j = clash
        rows[i] = span.cleared(rows[i], rows[j], ends[j])


def _shortened(rows: list[LinearForm], span: _Span) -> list[LinearForm]:
    """Each row is zero where the rows inside its span begin, or where they end, whichever leaves
    fewer entries. Rows inside a span cannot change where it begins or ends.
    """
    for i in reversed(range(len(rows))):
        end = span.order[span.last(rows[i])]
        inside = [other for other in rows[i + 1 :] if span.order[span.last(other)] < end]
        early = late = rows[i]
        for other in inside:
            early = span.cleared(early, other, span.first(other))
        for other in sorted(inside, key=lambda other: -span.order[span.last(other)]):
            late = span.cleared(late, other, span.last(other))
        rows[i] = min(early, late, key=len)
    return rows
