"""What the figures share: colours, markers, panels, and the table that stands beside each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = dict[str, list]
"""Columns of equal length by name."""


COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


MARKERS = ("o", "s", "^")


DIAGONAL: dict[str, Any] = {"color": "0.6", "linewidth": 1, "zorder": 0}


def blank(**how: Any) -> Figure:
    """An empty figure; matplotlib comes with the first one, since importing it takes a while."""
    from matplotlib.figure import Figure

    return Figure(**how, layout="constrained")


def grid_of(count: int, across: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows of ``across``."""
    rows = -(-count // across)
    figure = blank(figsize=(2.4 * min(count, across), 0.2 + 2.2 * rows))
    grid = figure.subplots(rows, min(count, across), squeeze=False)
    panels = [*grid.flat]
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def dotted(i: int) -> dict[str, Any]:
    """The style of the ``i``-th line through measured points."""
    return {"color": COLORS[i % len(COLORS)], "marker": "o", "markersize": 3}


def beside(count: int, i: float) -> list[float]:
    """Places of the ``i``-th of two bars of each of ``count`` things; 0.5 is between the two."""
    return [number + 0.4 * i for number in range(count)]


def extend(table: Table, *rows: Iterable[Any]) -> None:
    """Append to every column of a table, in their order."""
    for column, values in zip(table.values(), rows, strict=True):
        column += values


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Write what the two axes show."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
