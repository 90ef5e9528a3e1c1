"""The solutions of homogeneous linear equations, over the rational numbers or modulo two, in a
basis of short rows.

    kernel(A) = {x : A x = 0}          minimal span: no two rows begin, nor end, at the same column

The minimal-span form of a space (Kschischang & Sorokine, 1995, use it for trellises) has rows as
local as they can be: each couples unknowns that follow each other in the order of the columns, so
that the symmetries before and after a normalization come out apart. A row of x is a dict without
zeros. Exact: integers and fractions, no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

Row = dict[int, Fraction]


def plus(a: Mapping[int, Fraction], b: Mapping[int, Fraction], factor: Fraction | int = 1) -> Row:
    """a + factor b."""
    total = dict(a)
    for column, value in b.items():
        total[column] = total.get(column, Fraction(0)) + factor * value
    return {column: value for column, value in total.items() if value}


def kernel(
    equations: Iterable[Mapping[int, Fraction]], columns: Sequence[int], *, modulo: int = 0
) -> list[Row]:
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


def independent(rows: Iterable[Row], of: Iterable[Row], *, modulo: int = 0) -> list[Row]:
    """Rows that are no combination of those kept before them and of the rows ``of``."""
    pivots: dict[int, Row] = {}
    kept: list[Row] = []
    for row, keep in [*((row, False) for row in of), *((row, True) for row in rows)]:
        rest = _against(_field(row, modulo), pivots, modulo)
        if rest:
            _insert(rest, min(rest), pivots, modulo)
            kept += [row] * keep
    return kept


def remainder(row: Row, rows: Iterable[Row], columns: Sequence[int], *, modulo: int = 0) -> Row:
    """The row plus a combination of others, with zeros in as many of the first columns as can
    be.
    """
    order = {column: -i for i, column in enumerate(columns)}
    return _against(
        _field(row, modulo),
        _reduced((_field(other, modulo) for other in rows), order, modulo),
        modulo,
    )


def integers(row: Row) -> dict[int, int]:
    """The same direction with coprime integers."""
    scale = math.lcm(*(value.denominator for value in row.values()))
    whole = {column: int(value * scale) for column, value in row.items()}
    return {column: value // math.gcd(*whole.values()) for column, value in whole.items()}


def _field(row: Mapping[int, Fraction], modulo: int) -> Row:
    if not modulo:
        return {column: value for column, value in row.items() if value}
    return {column: Fraction(1) for column, value in row.items() if value % modulo}


def _reduced(rows: Iterable[Row], order: Mapping[int, int], modulo: int) -> dict[int, Row]:
    """Reduced echelon form by pivot, which is the last column of each row, so that unknowns are
    given by those before them.
    """
    pivots: dict[int, Row] = {}
    for row in rows:
        rest = _against(row, pivots, modulo)
        if rest:
            _insert(rest, max(rest, key=order.__getitem__), pivots, modulo)
    return pivots


def _against(row: Row, pivots: Mapping[int, Row], modulo: int) -> Row:
    for pivot in [column for column in row if column in pivots]:
        row = _field(plus(row, pivots[pivot], -row[pivot]), modulo)
    return row


def _insert(row: Row, pivot: int, pivots: dict[int, Row], modulo: int) -> None:
    row = {column: value / row[pivot] for column, value in row.items()}
    for other, old in pivots.items():
        if pivot in old:
            pivots[other] = _field(plus(old, row, -old[pivot]), modulo)
    pivots[pivot] = row


def _minimal_span(rows: list[Row], order: Mapping[int, int], modulo: int) -> list[Row]:
    """Distinct first columns, then distinct last ones; then each row is zero where the rows inside
    its span begin, or where they end, whichever is shorter.
    """

    def cleared(row: Row, by: Row, column: int) -> Row:
        return _field(plus(row, by, -row[column] / by[column]), modulo) if column in row else row

    def ends(row: Row) -> tuple[int, int]:
        return min(row, key=order.__getitem__), max(row, key=order.__getitem__)

    pivots: dict[int, Row] = {}
    for row in rows:
        rest = _against(row, pivots, modulo)
        _insert(rest, ends(rest)[0], pivots, modulo)
    rows = [pivots[column] for column in sorted(pivots, key=order.__getitem__)]
    while clash := next(
        (
            (i, j)
            for j in range(len(rows))
            for i in range(j)
            if ends(rows[i])[1] == ends(rows[j])[1]
        ),
        None,
    ):
        i, j = clash
        rows[i] = cleared(rows[i], rows[j], ends(rows[j])[1])
    for i in reversed(range(len(rows))):
        inside = [
            other for other in rows[i + 1 :] if order[ends(other)[1]] < order[ends(rows[i])[1]]
        ]
        late = rows[i]
        for other in inside:
            rows[i] = cleared(rows[i], other, ends(other)[0])
        for other in sorted(inside, key=lambda other: -order[ends(other)[1]]):
            late = cleared(late, other, ends(other)[1])
        rows[i] = min(rows[i], late, key=len)
    return [{column: row[column] for column in sorted(row, key=order.__getitem__)} for row in rows]
