"""What a merge made of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from wsl.plots.drawing import COLORS, Table, blank, extend, grid_of, name_axes
from wsl.plots.paths import path_figure, path_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wsl.merging import Interference, MergeReport


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
    figure = blank(figsize=(1 + 3 * len(metrics), 0.9 + 0.3 * len(scores)))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        values = [told.get(metric, float("nan")) for told in scores.values()]
        axes.barh(range(len(scores)), values, color=COLORS[0], height=0.6)
        name_axes(axes, metric, "")
    panels[0].set_yticks(range(len(scores)), [*scores])
    panels[0].invert_yaxis()
    return figure


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Columns network, metric, value."""
    rows = [(who, name, value) for who, told in scores.items() for name, value in told.items()]
    table: Table = {"network": [], "metric": [], "value": []}
    for row in rows:
        extend(table, *[[value] for value in row])
    return table


def pairs_figure(names: Sequence[str], measures: Mapping[str, Tensor]) -> Figure:
    """A panel for each measure of all pairs (N, N), with its numbers written in."""
    figure, panels = grid_of(len(measures))
    for axes, (measure, values) in zip(panels, measures.items(), strict=True):
        axes.imshow(values.tolist(), cmap="Blues")
        places = range(len(names))
        axes.set_xticks(places, names)
        axes.set_yticks(places, names)
        for i in places:
            for j in places:
                box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1}
                axes.text(j, i, f"{values[i, j]:.2g}", ha="center", va="center", bbox=box)
        name_axes(axes, measure, "")
    return figure


def pairs_table(names: Sequence[str], measures: Mapping[str, Tensor]) -> Table:
    """Columns one, other, and each measure; a row for each pair of different names."""
    table: Table = {name: [] for name in ("one", "other", *measures)}
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            values = [[float(each[i, j])] for each in measures.values()]
            extend(table, [one], [names[j]], *values)
    return table


def _layers_figure(found: Interference) -> Figure:
    """Mean cosine and conflict of each tensor."""
    count = len(found.names)
    figure = blank(figsize=(8, 1.2 + 0.24 * count))
    both = figure.subplots(1, 2, sharey=True)
    for i, (axes, label) in enumerate(zip(both, ("cosine", "sign conflict"), strict=True)):
        axes.barh(range(count), found.layers[:, i].tolist(), color=COLORS[i], height=0.6)
        name_axes(axes, label, "")
    both[0].set_yticks(range(count), found.names)
    both[0].invert_yaxis()
    return figure


def _layers_table(found: Interference) -> Table:
    """Columns tensor, cosine, sign_conflict."""
    cosine, conflict = found.layers.T.tolist() if found.names else ([], [])
    return {"tensor": [*found.names], "cosine": cosine, "sign_conflict": conflict}
