"""Figures, each with the table of the numbers it shows.

``x_figure(data)`` returns a matplotlib `Figure` and ``x_table(data)`` its columns; `save_figure`
writes both side by side. Figures are objects of their own: no pyplot, no display, nothing shown, no
global style. It computes nothing but the scores that it prints in a title.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wsl.connectivity import PathLosses, PlaneLosses, loss_barrier
from wsl.metrics import kendall_tau, r2

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = dict[str, list]
"""Columns of equal length by name."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


_DIAGONAL: dict[str, Any] = {"color": "0.6", "linewidth": 1, "zorder": 0}


def path_figure(curves: Mapping[str, PathLosses]) -> Figure:
    """Loss and accuracy along linear paths, one line per name.

    The legend gives each path's loss barrier.
    """
    figure = _blank(figsize=(8, 3.6))
    loss, accuracy = figure.subplots(1, 2)
    for i, (name, path) in enumerate(curves.items()):
        style = {"color": COLORS[i % len(COLORS)], "marker": "o", "markersize": 3}
        loss.plot(path.t, path.loss, label=f"{name} (barrier {loss_barrier(path):.3g})", **style)
        accuracy.plot(path.t, path.accuracy, label=name, **style)
    for axes, label in ((loss, "loss"), (accuracy, "accuracy")):
        _label(axes, "t, from a to b", label)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def path_table(curves: Mapping[str, PathLosses]) -> Table:
    """Columns path, t, loss, accuracy."""
    table: Table = {"path": [], "t": [], "loss": [], "accuracy": []}
    for name, path in curves.items():
        table["path"] += [name] * len(path.t)
        for column in ("t", "loss", "accuracy"):
            table[column] += getattr(path, column).tolist()
    return table


def plane_figure(losses: PlaneLosses, *, levels: int = 20) -> Figure:
    """Contours of the loss on a plane, with the three networks that span it.

    Colours are equally frequent, since a few points of a plane are far worse than all others.
    """
    figure = _blank(figsize=(4.6, 3.8))
    axes = figure.subplots()
    cuts = losses.loss.flatten().quantile(torch.linspace(0, 1, levels, dtype=torch.float64))
    edges = cuts.unique().tolist()
    if len(edges) > 1:
        grid = (losses.x.tolist(), losses.y.tolist(), losses.loss.tolist())
        shown = axes.contourf(*grid, levels=edges, cmap="viridis_r")
        figure.colorbar(shown, ax=axes, label="loss", format="%.3g")
    for name, (x, y) in zip("abc", losses.corners.tolist(), strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black")
        axes.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points")
    axes.set_aspect("equal")
    _label(axes, "distance from a towards b", "distance from that line")
    return figure


def plane_table(losses: PlaneLosses) -> Table:
    """Columns x, y, loss, accuracy, row by row."""
    y, x = torch.meshgrid(losses.y, losses.x, indexing="ij")
    columns = {"x": x, "y": y, "loss": losses.loss, "accuracy": losses.accuracy}
    return {name: column.flatten().tolist() for name, column in columns.items()}


def scatter_figure(predicted: Tensor, true: Tensor, *, label: str = "accuracy") -> Figure:
    """Predictions (N,) against the truth (N,), with Kendall's tau and R^2.

    On the line the two agree.
    """
    figure = _blank(figsize=(4, 4))
    axes = figure.subplots()
    both = torch.cat([predicted, true])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, **_DIAGONAL)
    axes.scatter(true.tolist(), predicted.tolist(), s=12, alpha=0.6, color=COLORS[0], linewidths=0)
    axes.set_title(f"tau {kendall_tau(predicted, true):.3f}, R² {r2(predicted, true):.3f}")
    _label(axes, f"true {label}", f"predicted {label}")
    return figure


def scatter_table(predicted: Tensor, true: Tensor) -> Table:
    """Columns true, predicted."""
    return {"true": true.tolist(), "predicted": predicted.tolist()}


def histogram_figure(samples: Mapping[str, Tensor], *, label: str, bins: int = 30) -> Figure:
    """Distributions of (N,) values, one outline per name over common bins, each with area one."""
    figure = _blank(figsize=(5, 3.2))
    axes = figure.subplots()
    table = histogram_table(samples, bins=bins)
    for i, name in enumerate(samples):
        low, high, density = _columns_of(table, slice(i * bins, (i + 1) * bins))
        axes.stairs(density, [*low, high[-1]], label=name, color=COLORS[i % len(COLORS)])
    _label(axes, label, "density")
    axes.legend(frameon=False)
    return figure


def _columns_of(table: Table, own: slice) -> list[list]:
    return [table[column][own] for column in ("low", "high", "density")]


def histogram_table(samples: Mapping[str, Tensor], *, bins: int = 30) -> Table:
    """Columns sample, low, high (edges of the bin), count, density."""
    edges = _common_edges(samples, bins)
    table: Table = {"sample": [], "low": [], "high": [], "count": [], "density": []}
    for name, sample in samples.items():
        own = [[name] * bins, *_counted(sample, edges)]
        for column, values in zip(table.values(), own, strict=True):
            column += values
    return table


def _common_edges(samples: Mapping[str, Tensor], bins: int) -> Tensor:
    values = torch.cat([sample.double() for sample in samples.values()])
    return torch.histogram(values, bins).bin_edges


def _counted(sample: Tensor, edges: Tensor) -> list[list]:
    """Both edges of each bin, the number of values in it, and their density."""
    counts = torch.histogram(sample.double(), edges).hist
    density = counts / counts.sum() / edges.diff()
    return [column.tolist() for column in (edges[:-1], edges[1:], counts.long(), density)]


def bar_figure(
    values: Mapping[str, float], *, label: str, errors: Mapping[str, float] | None = None
) -> Figure:
    """One horizontal bar per name, in the order given.

    Error bars stand where ``errors`` has the name.
    """
    figure = _blank(figsize=(5, 0.6 + 0.35 * len(values)))
    axes = figure.subplots()
    spread = [(errors or {}).get(name, 0.0) for name in values]
    axes.barh(
        list(values),
        list(values.values()),
        xerr=spread if errors else None,
        color=COLORS[0],
        height=0.6,
    )
    axes.invert_yaxis()
    _label(axes, label, "")
    return figure


def bar_table(values: Mapping[str, float], *, errors: Mapping[str, float] | None = None) -> Table:
    """Columns name, value, error (empty where there is none)."""
    return {
        "name": list(values),
        "value": list(values.values()),
        "error": [(errors or {}).get(name, "") for name in values],
    }


def write_csv(path: str | Path, table: Mapping[str, Sequence]) -> None:
    """Write a table as CSV, numbers in full precision.

    Raises ValueError when the columns differ in length.
    """
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{path}: the columns of a table must be equally long, but they have {lengths}"
        )
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def save_figure(path: str | Path, figure: Figure, table: Mapping[str, Sequence]) -> None:
    """Write ``figure``, and its numbers beside it with the suffix ``.csv``.

    The suffix of ``path`` chooses the format.
    """
    figure.savefig(path, dpi=150)
    write_csv(Path(path).with_suffix(".csv"), table)


def _blank(**how: Any) -> Figure:
    """An empty figure; matplotlib comes with the first one, since importing it takes a while."""
    from matplotlib.figure import Figure

    return Figure(**how, layout="constrained")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
