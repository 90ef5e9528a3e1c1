"""What is known of the members of a population: a histogram for each column, as on a page of
`wsl zoo look`.

Whole numbers are counted one by one while 32 bins hold them. Positive numbers that span more than a
factor of 50 are binned by their logarithm, words by their levels. Missing values (NaN) are in no
bin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsl.plots.drawing import COLORS, Table, extend, grid_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS, _WHOLE, _WIDE, _LEVELS = 30, 32, 50, 24

Columns = Mapping[str, Sequence | np.ndarray]
"""One value for each of N rows, by the name of the column."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Binned:
    """low, high: what each bin holds. places: (N,) the bin of each row, -1 for none."""

    low: list
    high: list
    places: np.ndarray
    log: bool = False

    @property
    def words(self) -> bool:
        return isinstance(self.low[0], str)

    def bars(self) -> tuple[np.ndarray, np.ndarray]:
        """Left edges and widths."""
        if self.words:
            return np.arange(len(self.low)) - 0.5, np.ones(len(self.low))
        left = np.array(self.low)
        return left, np.array(self.high) - left

    def counts(self, rows: Iterable[int] | None = None) -> list[int]:
        places = self.places if rows is None else self.places[np.asarray([*rows], dtype=np.int64)]
        return np.bincount(places[places >= 0], minlength=len(self.low)).tolist()


def population_columns_figure(
    columns: Columns, *, chosen: Iterable[int] | None = None, across: int = 4
) -> Figure:
    """A histogram of each column: all rows in grey, the ``chosen`` ones over them.

    Words with more than 24 levels are names and have no histogram. Raises ValueError where no
    column is left.
    """
    binned, rows = dict(_drawn(columns)), None if chosen is None else [*chosen]
    figure, panels = grid_of(len(binned), across)
    for axes, (name, bins) in zip(panels, binned.items(), strict=True):
        _draw(axes, bins, rows)
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def population_columns_table(columns: Columns, *, chosen: Iterable[int] | None = None) -> Table:
    """Columns column, low, high (edges of the bin, or twice the word), all, chosen."""
    rows = None if chosen is None else [*chosen]
    table: Table = {"column": [], "low": [], "high": [], "all": [], "chosen": []}
    for name, bins in _drawn(columns):
        counts = bins.counts(), bins.counts(rows)
        extend(table, [name] * len(bins.low), bins.low, bins.high, *counts)
    return table


def _draw(axes: Axes, bins: _Binned, rows: list[int] | None) -> None:
    left, width = bins.bars()
    for counts, color in ((bins.counts(), "0.8"), (bins.counts(rows), COLORS[0])):
        axes.bar(left, counts, width, align="edge", color=color)
    if bins.log:
        axes.set_xscale("log")
    if bins.words:
        axes.set_xticks(range(len(bins.low)), bins.low, rotation=30, ha="right", fontsize=7)


def _drawn(columns: Columns) -> Iterator[tuple[str, _Binned]]:
    """The columns that have a histogram, with their bins."""
    found = {name: _binned(np.asarray(values)) for name, values in columns.items()}
    kept = {name: bins for name, bins in found.items() if bins is not None}
    if not kept:
        raise ValueError(
            f"columns {', '.join(columns) or '(none)'}: no histogram, since words of more than "
            f"{_LEVELS} levels are names; give a column of numbers or of fewer words"
        )
    yield from kept.items()


def _binned(values: np.ndarray) -> _Binned | None:
    """The bins of one column; None for names."""
    if values.dtype.kind in "iufb":
        return _numbers(values.astype(np.float64))
    levels, places = np.unique(values.astype(str), return_inverse=True)
    words = levels.tolist()
    return _Binned(words, words, places) if len(levels) <= _LEVELS else None


def _numbers(values: np.ndarray) -> _Binned:
    finite = np.isfinite(values)
    edges, log = _edges(values[finite])
    places = np.searchsorted(edges, values, side="right") - 1
    # the largest value belongs to the last bin, and rounding moves nothing out of the first
    places = np.where(finite, places.clip(0, len(edges) - 2), -1)
    return _Binned(edges[:-1].tolist(), edges[1:].tolist(), places, log)


def _edges(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Edges of the bins, and whether they are equally far on a logarithmic axis."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.5)
    if (values == values.round()).all() and len(values):
        return _whole_edges(low, high), False
    if low > 0 and high / low > _WIDE:
        return np.geomspace(low, high, _BINS + 1), True
    return np.linspace(low, high if high > low else low + 1, _BINS + 1), False


def _whole_edges(low: float, high: float) -> np.ndarray:
    """Half way between whole numbers, so many of them in each bin that 32 hold all."""
    width = np.ceil((high - low + 1) / _WHOLE)
    return low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1)
