"""Points, lines, bars and histograms of anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wsl.metrics import kendall_tau, r2
from wsl.plots.drawing import COLORS, DIAGONAL, MARKERS, Table, blank, dotted, extend, name_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scatter_figure(predicted: Tensor, true: Tensor, *, label: str = "accuracy") -> Figure:
    """Predictions (N,) against the truth (N,), with Kendall's tau and R^2.

    On the line the two agree.
    """
    figure = blank(figsize=(4, 4))
    axes = figure.subplots()
    both = torch.cat([predicted, true])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, **DIAGONAL)
    axes.scatter(true.tolist(), predicted.tolist(), s=12, alpha=0.6, color=COLORS[0], linewidths=0)
    axes.set_title(f"tau {kendall_tau(predicted, true):.3f}, R² {r2(predicted, true):.3f}")
    name_axes(axes, f"true {label}", f"predicted {label}")
    return figure


def scatter_table(predicted: Tensor, true: Tensor) -> Table:
    """Columns true, predicted."""
    return {"true": true.tolist(), "predicted": predicted.tolist()}


def points_figure(points: Mapping[str, tuple[Tensor, Tensor]], *, x: str, y: str) -> Figure:
    """Clouds of points by name, each the coordinates (n,) and (n,)."""
    figure = blank(figsize=(6.4, 4))
    axes = figure.subplots()
    for i, (name, (across, up)) in enumerate(points.items()):
        style = {"marker": MARKERS[i // len(COLORS) % len(MARKERS)], "alpha": 0.7}
        axes.scatter(
            across.tolist(), up.tolist(), s=14, color=COLORS[i % len(COLORS)], label=name, **style
        )
    name_axes(axes, x, y)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def points_table(points: Mapping[str, tuple[Tensor, Tensor]]) -> Table:
    """Columns name, x, y."""
    table: Table = {"name": [], "x": [], "y": []}
    for name, (across, up) in points.items():
        extend(table, [name] * len(across), across.tolist(), up.tolist())
    return table


def histogram_figure(samples: Mapping[str, Tensor], *, label: str, bins: int = 30) -> Figure:
    """Distributions of (N,) values, one outline per name over common bins, each with area one."""
    figure = blank(figsize=(5, 3.2))
    axes = figure.subplots()
    table = histogram_table(samples, bins=bins)
    for i, name in enumerate(samples):
        low, high, density = _columns_of(table, slice(i * bins, (i + 1) * bins))
        axes.stairs(density, [*low, high[-1]], label=name, color=COLORS[i % len(COLORS)])
    name_axes(axes, label, "density")
    axes.legend(frameon=False)
    return figure


def _columns_of(table: Table, own: slice) -> list[list]:
    return [table[column][own] for column in ("low", "high", "density")]


def histogram_table(samples: Mapping[str, Tensor], *, bins: int = 30) -> Table:
    """Columns sample, low, high (edges of the bin), count, density."""
    edges = _common_edges(samples, bins)
    table: Table = {"sample": [], "low": [], "high": [], "count": [], "density": []}
    for name, sample in samples.items():
        extend(table, [name] * bins, *_counted(sample, edges))
    return table


def _common_edges(samples: Mapping[str, Tensor], bins: int) -> Tensor:
    values = torch.cat([sample.double() for sample in samples.values()])
    return torch.histogram(values, bins).bin_edges


def _counted(sample: Tensor, edges: Tensor) -> list[list]:
    """Both edges of each bin, the number of values in it, and their density."""
    counts = torch.histogram(sample.double(), edges).hist
    density = counts / counts.sum() / edges.diff()
    return [column.tolist() for column in (edges[:-1], edges[1:], counts.long(), density)]


Lines = Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]]
"""Places, heights and deviations of each line, by its name."""


def lines_figure(lines: Lines, *, x: str, y: str) -> Figure:
    """One line per name with a band of one deviation; the legend stands beside them."""
    figure = blank(figsize=(8, 4.2))
    axes = figure.subplots()
    for i, (name, (places, heights, spread)) in enumerate(lines.items()):
        dashes = ("-", "--", ":")[i // len(COLORS) % 3]
        axes.plot(places, heights, label=name, linestyle=dashes, **dotted(i))
        low, high = (
            [h + sign * s for h, s in zip(heights, spread, strict=True)] for sign in (-1, 1)
        )
        axes.fill_between(places, low, high, color=COLORS[i % len(COLORS)], alpha=0.12, linewidth=0)
    name_axes(axes, x, y)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def lines_table(lines: Lines) -> Table:
    """Columns line, place, height, deviation."""
    table: Table = {"line": [], "place": [], "height": [], "deviation": []}
    for name, (places, heights, spread) in lines.items():
        extend(table, [name] * len(places), places, heights, spread)
    return table


def bar_figure(
    values: Mapping[str, float], *, label: str, errors: Mapping[str, float] | None = None
) -> Figure:
    """One horizontal bar per name, in the order given.

    Error bars stand where ``errors`` has the name.
    """
    figure = blank(figsize=(6.4, 0.8 + 0.26 * len(values)))
    axes = figure.subplots()
    spread = [(errors or {}).get(name, 0.0) for name in values]
    axes.barh(
        list(values),
        list(values.values()),
        xerr=spread if errors else None,
        color=COLORS[0],
        height=0.6,
    )
    axes.margins(y=0.4 / max(1, len(values)))
    axes.invert_yaxis()
    name_axes(axes, "", "")
    # long names leave little room to the bars: centred below them, a label would leave the figure
    axes.set_xlabel(label, loc="right")
    return figure


def bar_table(values: Mapping[str, float], *, errors: Mapping[str, float] | None = None) -> Table:
    """Columns name, value, error (empty where there is none)."""
    return {
        "name": list(values),
        "value": list(values.values()),
        "error": [(errors or {}).get(name, "") for name in values],
    }
