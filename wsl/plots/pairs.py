"""Two networks beside each other: distances, spectra, alignment, estimates of the barrier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from wsl.connectivity import (
    ConnectivityReport,
    InputAlignment,
    LayerDistances,
    SingularAlignment,
    SingularSpectra,
    TaylorBarrier,
    ThreeModels,
)
from wsl.plots.drawing import (
    COLORS,
    DIAGONAL,
    Table,
    beside,
    blank,
    dotted,
    extend,
    grid_of,
    name_axes,
)
from wsl.plots.paths import path_figure, path_table, plane_figure, plane_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distance_figure(distances: LayerDistances) -> Figure:
    """Distance and cosine of each layer before and after alignment, the total last."""
    count = len(distances.names)
    figure = blank(figsize=(8, 1.2 + 0.28 * count))
    both = figure.subplots(1, 2, sharey=True)
    for axes, label, what in ((both[0], "distance", ""), (both[1], "cosine", "cosine_")):
        for i, when in enumerate(("before", "after")):
            values = getattr(distances, what + when).tolist()
            axes.barh(beside(count, i), values, height=0.38, color=COLORS[i], label=when)
        name_axes(axes, label, "")
    both[0].set_yticks(beside(count, 0.5), distances.names)
    both[0].invert_yaxis()
    both[1].legend(frameon=False)
    return figure


def distance_table(distances: LayerDistances) -> Table:
    """Columns layer, before, after, cosine_before, cosine_after."""
    columns = ("before", "after", "cosine_before", "cosine_after")
    rows = {name: getattr(distances, name).tolist() for name in columns}
    return {"layer": [*distances.names], **rows}


def spectra_figure(spectra: SingularSpectra) -> Figure:
    """Singular values of each layer of two networks, one over the other."""
    figure, panels = grid_of(len(spectra.names))
    for axes, name, *pair in zip(panels, spectra.names, spectra.a, spectra.b, strict=True):
        for values, label, color, style in zip(pair, "ab", COLORS, ("-", "--"), strict=False):
            numbers = range(1, len(values) + 1)
            axes.plot(numbers, values, label=label, color=color, linestyle=style)
        axes.set_title(name, fontsize=8)
        name_axes(axes, "number", "singular value")
    panels[0].legend(frameon=False)
    return figure


def spectra_table(spectra: SingularSpectra) -> Table:
    """Columns layer, number, a, b."""
    table: Table = {"layer": [], "number": [], "a": [], "b": []}
    for name, a, b in zip(spectra.names, spectra.a, spectra.b, strict=True):
        extend(table, [name] * len(a), range(1, len(a) + 1), a.tolist(), b.tolist())
    return table


def alignment_figure(curves: Mapping[str, SingularAlignment]) -> Figure:
    """R over the threshold of singular values, one line for each pair."""
    figure = blank(figsize=(5, 3.4))
    axes = figure.subplots()
    for i, (name, found) in enumerate(curves.items()):
        axes.plot(found.gamma, found.r, label=name, **dotted(i))
    axes.axhline(0, **DIAGONAL)
    name_axes(axes, "singular values above this share of the largest", "R")
    axes.legend(frameon=False)
    return figure


def alignment_table(curves: Mapping[str, SingularAlignment]) -> Table:
    """Columns pair, layer, gamma, r; the layer ``all`` is R of the whole network."""
    table: Table = {"pair": [], "layer": [], "gamma": [], "r": []}
    for pair, found in curves.items():
        values = torch.cat([found.r[:, None], found.layers], 1).T
        for layer, row in zip(("all", *found.names), values.tolist(), strict=True):
            gamma = found.gamma.tolist()
            extend(table, [pair] * len(row), [layer] * len(row), gamma, row)
    return table


def input_figure(found: InputAlignment) -> Figure:
    """Alignment of inputs with the right singular vectors of each layer, and that of chance."""
    figure, panels = grid_of(len(found.names))
    rows = (found.names, found.alignment, found.chance)
    for axes, name, values, chance in zip(panels, *rows, strict=True):
        axes.plot(range(1, len(values) + 1), values, color=COLORS[0])
        axes.axhline(chance, **DIAGONAL)
        axes.set_title(name, fontsize=8)
        name_axes(axes, "singular vector", "alignment of inputs")
    return figure


def input_table(found: InputAlignment) -> Table:
    """Columns layer, number, singular_value, alignment, chance."""
    table: Table = {"layer": [], "number": [], "singular_value": [], "alignment": [], "chance": []}
    rows = (found.names, found.singular_values, found.alignment, found.chance)
    for name, values, alignment, chance in zip(*rows, strict=True):
        count = len(values)
        measured = (values.tolist(), alignment.tolist())
        extend(table, [name] * count, range(1, count + 1), *measured, [chance] * count)
    return table


def taylor_figure(found: Mapping[str, TaylorBarrier]) -> Figure:
    """The barrier half way as an expansion at the ends has it, beside the true one."""
    figure = blank(figsize=(5, 3))
    axes = figure.subplots()
    for i, name in enumerate(("estimate", "measured")):
        values = [getattr(each, name) for each in found.values()]
        axes.bar(beside(len(found), i), values, width=0.38, color=COLORS[i], label=name)
    axes.set_xticks(beside(len(found), 0.5), [*found])
    axes.axhline(0, **DIAGONAL)
    axes.set_yscale("symlog", linthresh=0.1)
    name_axes(axes, "", "barrier half way")
    axes.legend(frameon=False)
    return figure


def taylor_table(found: Mapping[str, TaylorBarrier]) -> Table:
    """Columns path, gradient, curvature, estimate, measured."""
    columns = ("gradient", "curvature", "estimate", "measured")
    rows = {name: [getattr(each, name) for each in found.values()] for name in columns}
    return {"path": [*found], **rows}


def three_models_figure(found: ThreeModels) -> Figure:
    """Loss between two networks that were matched to a third, beside the lines to that one."""
    names = {"a to b'": found.first, "a to c'": found.second}
    return path_figure(names | {"b' to c'": found.indirect, "b to c": found.naive})


def three_models_table(found: ThreeModels) -> Table:
    """Columns path, t, loss, accuracy."""
    names = {"a to b'": found.first, "a to c'": found.second}
    return path_table(names | {"b' to c'": found.indirect, "b to c": found.naive})


def report_figures(found: ConnectivityReport) -> dict[str, tuple[Figure, Table]]:
    """Every figure of a report with its table, by the name of its file."""
    drawn: dict[str, tuple[Any, Callable[[Any], Figure], Callable[[Any], Table]]] = {
        "path": (found.paths, path_figure, path_table),
        "distances": (found.distances, distance_figure, distance_table),
        "spectra": (found.spectra, spectra_figure, spectra_table),
        "alignment": (found.alignment, alignment_figure, alignment_table),
        "inputs": (found.inputs, input_figure, input_table),
        "taylor": (found.taylor or None, taylor_figure, taylor_table),
        "plane": (found.plane, plane_figure, plane_table),
    }
    return {
        name: (figure(data), table(data))
        for name, (data, figure, table) in drawn.items()
        if data is not None
    }
