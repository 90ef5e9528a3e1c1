"""Losses along paths and on planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from wsl.connectivity import PathLosses, PlaneLosses, loss_barrier
from wsl.plots.drawing import Table, blank, dotted, name_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def path_figure(curves: Mapping[str, PathLosses]) -> Figure:
    """Loss and accuracy along linear paths, one line per name.

    The legend gives each path's loss barrier.
    """
    figure = blank(figsize=(8, 3.6))
    loss, accuracy = figure.subplots(1, 2)
    for i, (name, path) in enumerate(curves.items()):
        label = f"{name} (barrier {loss_barrier(path):.3g})"
        loss.plot(path.t, path.loss, label=label, **dotted(i))
        accuracy.plot(path.t, path.accuracy, label=name, **dotted(i))
    for axes, label in ((loss, "loss"), (accuracy, "accuracy")):
        name_axes(axes, "t, from a to b", label)
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
    figure = blank(figsize=(4.6, 3.8))
    axes = figure.subplots()
    _contours(figure, axes, losses, levels=levels)
    for name, (x, y) in zip("abc", losses.corners.tolist(), strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black")
        axes.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points")
    axes.set_aspect("equal")
    name_axes(axes, "distance from a towards b", "distance from that line")
    return figure


def _contours(figure: Figure, axes: Axes, losses: PlaneLosses, *, levels: int) -> None:
    """Fill the axes, between quantiles of the loss; a plane of one loss stays white."""
    cuts = losses.loss.flatten().quantile(torch.linspace(0, 1, levels, dtype=torch.float64))
    edges = cuts.unique().tolist()
    if len(edges) > 1:
        grid = (losses.x.tolist(), losses.y.tolist(), losses.loss.tolist())
        shown = axes.contourf(*grid, levels=edges, cmap="viridis_r")
        figure.colorbar(shown, ax=axes, label="loss", format="%.3g")


def plane_table(losses: PlaneLosses) -> Table:
    """Columns x, y, loss, accuracy, row by row."""
    y, x = torch.meshgrid(losses.y, losses.x, indexing="ij")
    columns = {"x": x, "y": y, "loss": losses.loss, "accuracy": losses.accuracy}
    return {name: column.flatten().tolist() for name, column in columns.items()}
