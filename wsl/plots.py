"""Figures, each with the table of the numbers it shows.

``x_figure(data)`` returns a matplotlib `Figure` and ``x_table(data)`` its columns; `save_figure`
writes both side by side. Figures are objects of their own: no pyplot, no display, nothing shown, no
global style. It computes nothing but the scores that it prints in a title.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wsl.connectivity import (
    ConnectivityReport,
    InputAlignment,
    LayerDistances,
    PathLosses,
    PlaneLosses,
    SingularAlignment,
    SingularSpectra,
    TaylorBarrier,
    ThreeModels,
    loss_barrier,
)
from wsl.metrics import kendall_tau, r2

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wsl.diagnostics import (
        IntrinsicDimension,
        NetworkSpectra,
        PruningRegime,
        UtilisedRank,
    )
    from wsl.merging import Interference, MergeReport

Table = dict[str, list]
"""Columns of equal length by name."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
_MARKERS = ("o", "s", "^")
_DIAGONAL: dict[str, Any] = {"color": "0.6", "linewidth": 1, "zorder": 0}


def path_figure(curves: Mapping[str, PathLosses]) -> Figure:
    """Loss and accuracy along linear paths, one line per name.

    The legend gives each path's loss barrier.
    """
    figure = _blank(figsize=(8, 3.6))
    loss, accuracy = figure.subplots(1, 2)
    for i, (name, path) in enumerate(curves.items()):
        label = f"{name} (barrier {loss_barrier(path):.3g})"
        loss.plot(path.t, path.loss, label=label, **_dotted(i))
        accuracy.plot(path.t, path.accuracy, label=name, **_dotted(i))
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
    _contours(figure, axes, losses, levels=levels)
    for name, (x, y) in zip("abc", losses.corners.tolist(), strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black")
        axes.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points")
    axes.set_aspect("equal")
    _label(axes, "distance from a towards b", "distance from that line")
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


def distance_figure(distances: LayerDistances) -> Figure:
    """Distance and cosine of each layer before and after alignment, the total last."""
    count = len(distances.names)
    figure = _blank(figsize=(8, 1.2 + 0.28 * count))
    both = figure.subplots(1, 2, sharey=True)
    for axes, label, what in ((both[0], "distance", ""), (both[1], "cosine", "cosine_")):
        for i, when in enumerate(("before", "after")):
            values = getattr(distances, what + when).tolist()
            axes.barh(_beside(count, i), values, height=0.38, color=COLORS[i], label=when)
        _label(axes, label, "")
    both[0].set_yticks(_beside(count, 0.5), distances.names)
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
    figure, panels = _panels(len(spectra.names))
    for axes, name, *pair in zip(panels, spectra.names, spectra.a, spectra.b, strict=True):
        for values, label, color, style in zip(pair, "ab", COLORS, ("-", "--"), strict=False):
            numbers = range(1, len(values) + 1)
            axes.plot(numbers, values, label=label, color=color, linestyle=style)
        axes.set_title(name, fontsize=8)
        _label(axes, "number", "singular value")
    panels[0].legend(frameon=False)
    return figure


def spectra_table(spectra: SingularSpectra) -> Table:
    """Columns layer, number, a, b."""
    table: Table = {"layer": [], "number": [], "a": [], "b": []}
    for name, a, b in zip(spectra.names, spectra.a, spectra.b, strict=True):
        _extend(table, [name] * len(a), range(1, len(a) + 1), a.tolist(), b.tolist())
    return table


def alignment_figure(curves: Mapping[str, SingularAlignment]) -> Figure:
    """R over the threshold of singular values, one line for each pair."""
    figure = _blank(figsize=(5, 3.4))
    axes = figure.subplots()
    for i, (name, found) in enumerate(curves.items()):
        axes.plot(found.gamma, found.r, label=name, **_dotted(i))
    axes.axhline(0, **_DIAGONAL)
    _label(axes, "singular values above this share of the largest", "R")
    axes.legend(frameon=False)
    return figure


def alignment_table(curves: Mapping[str, SingularAlignment]) -> Table:
    """Columns pair, layer, gamma, r; the layer ``all`` is R of the whole network."""
    table: Table = {"pair": [], "layer": [], "gamma": [], "r": []}
    for pair, found in curves.items():
        values = torch.cat([found.r[:, None], found.layers], 1).T
        for layer, row in zip(("all", *found.names), values.tolist(), strict=True):
            count = len(row)
            _extend(table, [pair] * count, [layer] * count, found.gamma.tolist(), row)
    return table


def input_figure(found: InputAlignment) -> Figure:
    """Alignment of inputs with the right singular vectors of each layer, and that of chance."""
    figure, panels = _panels(len(found.names))
    rows = (found.names, found.alignment, found.chance)
    for axes, name, values, chance in zip(panels, *rows, strict=True):
        axes.plot(range(1, len(values) + 1), values, color=COLORS[0])
        axes.axhline(chance, **_DIAGONAL)
        axes.set_title(name, fontsize=8)
        _label(axes, "singular vector", "alignment of inputs")
    return figure


def input_table(found: InputAlignment) -> Table:
    """Columns layer, number, singular_value, alignment, chance."""
    table: Table = {"layer": [], "number": [], "singular_value": [], "alignment": [], "chance": []}
    rows = (found.names, found.singular_values, found.alignment, found.chance)
    for name, values, alignment, chance in zip(*rows, strict=True):
        count = len(values)
        measured = (values.tolist(), alignment.tolist())
        _extend(table, [name] * count, range(1, count + 1), *measured, [chance] * count)
    return table


def taylor_figure(found: Mapping[str, TaylorBarrier]) -> Figure:
    """The barrier half way as an expansion at the ends has it, beside the true one."""
    figure = _blank(figsize=(5, 3))
    axes = figure.subplots()
    for i, name in enumerate(("estimate", "measured")):
        values = [getattr(each, name) for each in found.values()]
        axes.bar(_beside(len(found), i), values, width=0.38, color=COLORS[i], label=name)
    axes.set_xticks(_beside(len(found), 0.5), [*found])
    axes.axhline(0, **_DIAGONAL)
    axes.set_yscale("symlog", linthresh=0.1)
    _label(axes, "", "barrier half way")
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


def merge_figures(found: MergeReport) -> dict[str, tuple[Figure, Table]]:
    """Every figure of a merge with its table, by the name of its file."""
    figures: dict[str, tuple[Figure, Table]] = {}
    if found.scores:
        figures["scores"] = scores_figure(found.scores), scores_table(found.scores)
    if found.paths:
        figures["path"] = path_figure(found.paths), path_table(found.paths)
    if (each := found.interference) is not None and each.names and len(found.names) > 1:
        pairs = {"cosine": each.cosine, "sign conflict": each.conflict, "overlap": each.overlap}
        figures["interference"] = pairs_figure(found.names, pairs), pairs_table(found.names, pairs)
        figures["layers"] = _layers_figure(each), _layers_table(each)
    if found.gradients is not None and len(found.names) > 1:
        pairs = {"distance": found.gradients}
        figures["gradients"] = pairs_figure(found.names, pairs), pairs_table(found.names, pairs)
    return figures


def scores_figure(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """One panel of bars for each metric that any network has, networks in the order given."""
    metrics = list(dict.fromkeys(name for told in scores.values() for name in told))
    figure = _blank(figsize=(1 + 3 * len(metrics), 0.9 + 0.3 * len(scores)))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        values = [told.get(metric, float("nan")) for told in scores.values()]
        axes.barh(range(len(scores)), values, color=COLORS[0], height=0.6)
        _label(axes, metric, "")
    panels[0].set_yticks(range(len(scores)), [*scores])
    panels[0].invert_yaxis()
    return figure


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Columns network, metric, value."""
    rows = [(who, name, value) for who, told in scores.items() for name, value in told.items()]
    table: Table = {"network": [], "metric": [], "value": []}
    for row in rows:
        _extend(table, *[[value] for value in row])
    return table


def pairs_figure(names: Sequence[str], measures: Mapping[str, Tensor]) -> Figure:
    """A panel for each measure of all pairs (N, N), with its numbers written in."""
    figure, panels = _panels(len(measures))
    for axes, (measure, values) in zip(panels, measures.items(), strict=True):
        axes.imshow(values.tolist(), cmap="Blues")
        places = range(len(names))
        axes.set_xticks(places, names)
        axes.set_yticks(places, names)
        for i in places:
            for j in places:
                box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1}
                axes.text(j, i, f"{values[i, j]:.2g}", ha="center", va="center", bbox=box)
        _label(axes, measure, "")
    return figure


def pairs_table(names: Sequence[str], measures: Mapping[str, Tensor]) -> Table:
    """Columns one, other, and each measure; a row for each pair of different names."""
    table: Table = {name: [] for name in ("one", "other", *measures)}
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            values = [[float(each[i, j])] for each in measures.values()]
            _extend(table, [one], [names[j]], *values)
    return table


def _layers_figure(found: Interference) -> Figure:
    """Mean cosine and conflict of each tensor."""
    count = len(found.names)
    figure = _blank(figsize=(8, 1.2 + 0.24 * count))
    both = figure.subplots(1, 2, sharey=True)
    for i, (axes, label) in enumerate(zip(both, ("cosine", "sign conflict"), strict=True)):
        axes.barh(range(count), found.layers[:, i].tolist(), color=COLORS[i], height=0.6)
        _label(axes, label, "")
    both[0].set_yticks(range(count), found.names)
    both[0].invert_yaxis()
    return figure


def _layers_table(found: Interference) -> Table:
    """Columns tensor, cosine, sign_conflict."""
    cosine, conflict = found.layers.T.tolist() if found.names else ([], [])
    return {"tensor": [*found.names], "cosine": cosine, "sign_conflict": conflict}


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


def points_figure(points: Mapping[str, tuple[Tensor, Tensor]], *, x: str, y: str) -> Figure:
    """Clouds of points by name, each the coordinates (n,) and (n,)."""
    figure = _blank(figsize=(6.4, 4))
    axes = figure.subplots()
    for i, (name, (across, up)) in enumerate(points.items()):
        style = {"marker": _MARKERS[i // len(COLORS) % len(_MARKERS)], "alpha": 0.7}
        axes.scatter(
            across.tolist(), up.tolist(), s=14, color=COLORS[i % len(COLORS)], label=name, **style
        )
    _label(axes, x, y)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def points_table(points: Mapping[str, tuple[Tensor, Tensor]]) -> Table:
    """Columns name, x, y."""
    table: Table = {"name": [], "x": [], "y": []}
    for name, (across, up) in points.items():
        _extend(table, [name] * len(across), across.tolist(), up.tolist())
    return table


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
        _extend(table, [name] * bins, *_counted(sample, edges))
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
    figure = _blank(figsize=(8, 4.2))
    axes = figure.subplots()
    for i, (name, (places, heights, spread)) in enumerate(lines.items()):
        dashes = ("-", "--", ":")[i // len(COLORS) % 3]
        axes.plot(places, heights, label=name, linestyle=dashes, **_dotted(i))
        low, high = (
            [h + sign * s for h, s in zip(heights, spread, strict=True)] for sign in (-1, 1)
        )
        axes.fill_between(places, low, high, color=COLORS[i % len(COLORS)], alpha=0.12, linewidth=0)
    _label(axes, x, y)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def lines_table(lines: Lines) -> Table:
    """Columns line, place, height, deviation."""
    table: Table = {"line": [], "place": [], "height": [], "deviation": []}
    for name, (places, heights, spread) in lines.items():
        _extend(table, [name] * len(places), places, heights, spread)
    return table


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


def network_spectra_figure(networks: Mapping[str, NetworkSpectra]) -> Figure:
    """Singular values of every matrix, relative to its largest, one line for each network."""
    names = list(dict.fromkeys(name for each in networks.values() for name in each.each))
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        for i, (label, spectra) in enumerate(networks.items()):
            if name in spectra.each and len(spectra[name].values):
                values = spectra[name].values / spectra[name].values[0]
                numbers = range(1, len(values) + 1)
                axes.plot(numbers, values, label=label, color=COLORS[i % len(COLORS)], linewidth=1)
        axes.set_title(name, fontsize=8)
        axes.set_ylim(0, 1.05)
        _label(axes, "number", "s / s₁")
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def network_spectra_table(networks: Mapping[str, NetworkSpectra]) -> Table:
    """Columns network, matrix, number, singular_value."""
    table: Table = {"network": [], "matrix": [], "number": [], "singular_value": []}
    for label, spectra in networks.items():
        for each in spectra:
            count = len(each.values)
            numbers = range(1, count + 1)
            _extend(table, [label] * count, [each.name] * count, numbers, each.values.tolist())
    return table


def ranks_figure(networks: Mapping[str, NetworkSpectra]) -> Figure:
    """Effective and stable rank of every matrix as shares of the full rank."""
    table = ranks_table(networks)
    names = list(dict.fromkeys(table["matrix"]))
    figure = _blank(figsize=(8, 1.2 + 0.28 * len(names)))
    both = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(both, ("effective_rank", "stable_rank"), strict=True):
        for i, label in enumerate(networks):
            own = [k for k, each in enumerate(table["network"]) if each == label]
            shares = [table[column][k] / table["full_rank"][k] for k in own]
            places = [names.index(table["matrix"][k]) for k in own]
            axes.plot(shares, places, "o", color=COLORS[i % len(COLORS)], label=label)
        _label(axes, column.replace("_", " ") + " / full rank", "")
    both[0].set_yticks(range(len(names)), names)
    both[0].invert_yaxis()
    both[1].legend(frameon=False, fontsize=7)
    return figure


def ranks_table(networks: Mapping[str, NetworkSpectra]) -> Table:
    """Columns network, matrix, full_rank, effective_rank, stable_rank, energy_rank (of 99 %) and
    condition.
    """
    columns = ("full_rank", "effective_rank", "stable_rank", "energy_rank", "condition")
    table: Table = {name: [] for name in ("network", "matrix", *columns)}
    for label, spectra in networks.items():
        for each in spectra:
            ranks = (len(each.values), each.effective_rank, each.stable_rank)
            row = (label, each.name, *ranks, each.energy_rank(), each.condition)
            _extend(table, *[[value] for value in row])
    return table


def utilised_figure(networks: Mapping[str, Mapping[str, UtilisedRank]]) -> Figure:
    """The utilised rank of every layer as a share of its full rank, bars for each network."""
    table = utilised_table(networks)
    names, count = list(dict.fromkeys(table["layer"])), len(networks)
    figure = _blank(figsize=(5.5, 1 + 0.16 * (count + 1) * len(names)))
    axes = figure.subplots()
    for i, label in enumerate(networks):
        own = [k for k, each in enumerate(table["network"]) if each == label]
        places = [names.index(table["layer"][k]) + (i + 0.5) / count * 0.8 - 0.4 for k in own]
        shares = [table["rank"][k] / table["full_rank"][k] for k in own]
        color = COLORS[i % len(COLORS)]
        axes.barh(places, shares, height=0.8 / count, color=color, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    _label(axes, "utilised rank / full rank", "")
    axes.legend(frameon=False, fontsize=7)
    return figure


def utilised_table(networks: Mapping[str, Mapping[str, UtilisedRank]]) -> Table:
    """Columns network, layer, inputs, outputs, rank, full_rank, error."""
    columns = ("network", "layer", "inputs", "outputs", "rank", "full_rank", "error")
    table: Table = {name: [] for name in columns}
    for label, found in networks.items():
        for layer, each in found.items():
            row = (label, layer, each.inputs, each.outputs, each.rank, each.full, each.error)
            _extend(table, *[[value] for value in row])
    return table


def intrinsic_figure(found: Mapping[str, IntrinsicDimension]) -> Figure:
    """Scores over the dimension of the random subspace, with the share of the baseline."""
    figure = _blank(figsize=(5, 3.4))
    axes = figure.subplots()
    for i, (name, each) in enumerate(found.items()):
        reached = "none" if each.dimension is None else each.dimension
        axes.plot(each.dimensions, each.scores, label=f"{name}: {reached}", **_dotted(i))
        axes.axhline(
            each.share * each.baseline, color=COLORS[i % len(COLORS)], linewidth=1, zorder=0
        )
    axes.set_xscale("log")
    _label(axes, "dimensions of the random subspace", "score")
    axes.legend(frameon=False)
    return figure


def intrinsic_table(found: Mapping[str, IntrinsicDimension]) -> Table:
    """Columns objective, dimension, score, baseline."""
    table: Table = {"objective": [], "dimension": [], "score": [], "baseline": []}
    for name, each in found.items():
        count = len(each.scores)
        _extend(table, [name] * count, each.dimensions, each.scores, [each.baseline] * count)
    return table


def regimes_figure(
    found: Mapping[tuple[float, float], PruningRegime], *, label: str = "temperature"
) -> Figure:
    """The regime at every (temperature, density), with the barrier and CKA written in.

    Temperatures are columns and densities rows, both in the order given; ``label`` says what is
    the temperature.
    """
    temperatures, densities = ([*dict.fromkeys(each)] for each in zip(*found, strict=True))
    colors: dict[str, str] = {"I": COLORS[1], "II-A": COLORS[4], "II-B": COLORS[2]}
    figure = _blank(figsize=(1.4 + 1.2 * len(temperatures), 1 + 0.6 * len(densities)))
    axes = figure.subplots()
    for (temperature, density), each in found.items():
        x, y = temperatures.index(temperature), densities.index(density)
        axes.barh(y, 1, left=x - 0.5, height=1, color=colors[each.regime], alpha=0.5)
        told = f"{each.regime}\n{each.barrier:.2f}, {each.cka:.2f}"
        axes.annotate(told, (x, y), ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(temperatures)), [f"{each:g}" for each in temperatures])
    axes.set_yticks(range(len(densities)), [f"{each:g}" for each in densities])
    axes.invert_yaxis()
    _label(axes, label, "density")
    return figure


def regimes_table(found: Mapping[tuple[float, float], PruningRegime]) -> Table:
    """Columns temperature, density, regime, barrier, cka."""
    table: Table = {name: [] for name in ("temperature", "density", "regime", "barrier", "cka")}
    for (temperature, density), each in found.items():
        row = (temperature, density, each.regime, each.barrier, each.cka)
        _extend(table, *[[value] for value in row])
    return table


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


def save_page(
    path: str | Path,
    title: str,
    figures: Mapping[str, tuple[Figure, Mapping[str, Sequence]]],
    *,
    notes: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write one self-contained HTML page, and beside it the table of every figure as CSV.

    Figures are vector graphics inside of the page: nothing is loaded from elsewhere. ``notes`` are
    sentences that stand above a figure, by its name; ``facts`` are lines of a card below the title.
    Returns the tables' files, named after the page and the figure.
    """
    place, parts, tables = Path(path), [_card(facts)] if facts else [], []
    for name, (figure, table) in figures.items():
        file = place.with_name(f"{place.stem}_{name}.csv")
        write_csv(file, table)
        tables.append(file)
        parts.append(_part(name, figure, note=(notes or {}).get(name, ""), link=file.name))
    head = html.escape(title)
    place.write_text(_PAGE.format(title=head, body="\n".join(parts)), encoding="utf-8")
    return tables


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
svg {{ max-width: 100%; height: auto }} dd {{ overflow-wrap: anywhere }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def _card(facts: Mapping[str, str]) -> str:
    """Names and what is said of them, as a list of a page."""
    rows = [f"<dt>{html.escape(n)}</dt><dd>{html.escape(told)}</dd>" for n, told in facts.items()]
    return '<h2 id="card">card</h2>\n<dl>\n' + "\n".join(rows) + "\n</dl>"


def _part(name: str, figure: Figure, *, note: str, link: str) -> str:
    """The part of a page that shows one figure, with a link to its table."""
    link = html.escape(link)
    return (
        f'<h2 id="{name}">{name}</h2>\n<p>{html.escape(note)}</p>\n{_svg(figure)}\n'
        f'<p><a href="{link}">{link}</a></p>'
    )


def _svg(figure: Figure) -> str:
    """A figure as an element of a page, without what names its maker and the day.

    Names of parts inside of it are hashes, salted alike, so that equal runs write equal pages.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "wsl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


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


def _panels(count: int, across: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows of ``across``."""
    rows = -(-count // across)
    figure = _blank(figsize=(2.4 * min(count, across), 0.2 + 2.2 * rows))
    grid = figure.subplots(rows, min(count, across), squeeze=False)
    panels = [*grid.flat]
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _dotted(i: int) -> dict[str, Any]:
    """The style of the ``i``-th line through measured points."""
    return {"color": COLORS[i % len(COLORS)], "marker": "o", "markersize": 3}


def _beside(count: int, i: float) -> list[float]:
    """Places of the ``i``-th of two bars of each of ``count`` things; 0.5 is between the two."""
    return [number + 0.4 * i for number in range(count)]


def _extend(table: Table, *rows: Iterable[Any]) -> None:
    """Append to every column of a table, in their order."""
    for column, values in zip(table.values(), rows, strict=True):
        column += values


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
