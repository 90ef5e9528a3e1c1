"""Spectra and ranks of networks, and what was measured with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsl.plots.drawing import COLORS, Table, blank, dotted, extend, grid_of, name_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wsl.diagnostics import IntrinsicDimension, NetworkSpectra, PruningRegime, UtilisedRank


def network_spectra_figure(networks: Mapping[str, NetworkSpectra]) -> Figure:
    """Singular values of every matrix, relative to its largest, one line for each network."""
    names = list(dict.fromkeys(name for each in networks.values() for name in each.each))
    figure, panels = grid_of(len(names))
    for axes, name in zip(panels, names, strict=True):
        for i, (label, spectra) in enumerate(networks.items()):
            if name in spectra.each and len(spectra[name].values):
                values = spectra[name].values / spectra[name].values[0]
                numbers = range(1, len(values) + 1)
                axes.plot(numbers, values, label=label, color=COLORS[i % len(COLORS)], linewidth=1)
        axes.set_title(name, fontsize=8)
        axes.set_ylim(0, 1.05)
        name_axes(axes, "number", "s / s₁")
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def network_spectra_table(networks: Mapping[str, NetworkSpectra]) -> Table:
    """Columns network, matrix, number, singular_value."""
    table: Table = {"network": [], "matrix": [], "number": [], "singular_value": []}
    for label, spectra in networks.items():
        for each in spectra:
            count = len(each.values)
            numbers = range(1, count + 1)
            extend(table, [label] * count, [each.name] * count, numbers, each.values.tolist())
    return table


def ranks_figure(networks: Mapping[str, NetworkSpectra]) -> Figure:
    """Effective and stable rank of every matrix as shares of the full rank."""
    table = ranks_table(networks)
    names = list(dict.fromkeys(table["matrix"]))
    figure = blank(figsize=(8, 1.2 + 0.28 * len(names)))
    both = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(both, ("effective_rank", "stable_rank"), strict=True):
        for i, label in enumerate(networks):
            own = [k for k, each in enumerate(table["network"]) if each == label]
            shares = [table[column][k] / table["full_rank"][k] for k in own]
            places = [names.index(table["matrix"][k]) for k in own]
            axes.plot(shares, places, "o", color=COLORS[i % len(COLORS)], label=label)
        name_axes(axes, column.replace("_", " ") + " / full rank", "")
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
            extend(table, *[[value] for value in row])
    return table


def utilised_figure(networks: Mapping[str, Mapping[str, UtilisedRank]]) -> Figure:
    """The utilised rank of every layer as a share of its full rank, bars for each network."""
    table = utilised_table(networks)
    names, count = list(dict.fromkeys(table["layer"])), len(networks)
    figure = blank(figsize=(5.5, 1 + 0.16 * (count + 1) * len(names)))
    axes = figure.subplots()
    for i, label in enumerate(networks):
        own = [k for k, each in enumerate(table["network"]) if each == label]
        places = [names.index(table["layer"][k]) + (i + 0.5) / count * 0.8 - 0.4 for k in own]
        shares = [table["rank"][k] / table["full_rank"][k] for k in own]
        color = COLORS[i % len(COLORS)]
        axes.barh(places, shares, height=0.8 / count, color=color, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    name_axes(axes, "utilised rank / full rank", "")
    axes.legend(frameon=False, fontsize=7)
    return figure


def utilised_table(networks: Mapping[str, Mapping[str, UtilisedRank]]) -> Table:
    """Columns network, layer, inputs, outputs, rank, full_rank, error."""
    columns = ("network", "layer", "inputs", "outputs", "rank", "full_rank", "error")
    table: Table = {name: [] for name in columns}
    for label, found in networks.items():
        for layer, each in found.items():
            row = (label, layer, each.inputs, each.outputs, each.rank, each.full, each.error)
            extend(table, *[[value] for value in row])
    return table


def intrinsic_figure(found: Mapping[str, IntrinsicDimension]) -> Figure:
    """Scores over the dimension of the random subspace, with the share of the baseline."""
    figure = blank(figsize=(5, 3.4))
    axes = figure.subplots()
    for i, (name, each) in enumerate(found.items()):
        reached = "none" if each.dimension is None else each.dimension
        axes.plot(each.dimensions, each.scores, label=f"{name}: {reached}", **dotted(i))
        axes.axhline(
            each.share * each.baseline, color=COLORS[i % len(COLORS)], linewidth=1, zorder=0
        )
    axes.set_xscale("log")
    name_axes(axes, "dimensions of the random subspace", "score")
    axes.legend(frameon=False)
    return figure


def intrinsic_table(found: Mapping[str, IntrinsicDimension]) -> Table:
    """Columns objective, dimension, score, baseline."""
    table: Table = {"objective": [], "dimension": [], "score": [], "baseline": []}
    for name, each in found.items():
        count = len(each.scores)
        extend(table, [name] * count, each.dimensions, each.scores, [each.baseline] * count)
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
    figure = blank(figsize=(1.4 + 1.2 * len(temperatures), 1 + 0.6 * len(densities)))
    axes = figure.subplots()
    for (temperature, density), each in found.items():
        x, y = temperatures.index(temperature), densities.index(density)
        axes.barh(y, 1, left=x - 0.5, height=1, color=colors[each.regime], alpha=0.5)
        told = f"{each.regime}\n{each.barrier:.2f}, {each.cka:.2f}"
        axes.annotate(told, (x, y), ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(temperatures)), [f"{each:g}" for each in temperatures])
    axes.set_yticks(range(len(densities)), [f"{each:g}" for each in densities])
    axes.invert_yaxis()
    name_axes(axes, label, "density")
    return figure


def regimes_table(found: Mapping[tuple[float, float], PruningRegime]) -> Table:
    """Columns temperature, density, regime, barrier, cka."""
    table: Table = {name: [] for name in ("temperature", "density", "regime", "barrier", "cka")}
    for (temperature, density), each in found.items():
        row = (temperature, density, each.regime, each.barrier, each.cka)
        extend(table, *[[value] for value in row])
    return table
