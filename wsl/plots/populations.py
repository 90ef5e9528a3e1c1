"""The pictures of a page of `wsl zoo look`, one by one: maps, curves of tensors, distances, health.

They draw what `wsl.diagnostics` measures; rows are those that were given to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics import (
    QUANTILE_LEVELS,
    PopulationDistances,
    PopulationHealth,
    PopulationMap,
    TensorProfile,
)
from wsl.plots.drawing import COLORS, Table, blank, extend, grid_of, name_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND = (0.05, 0.5, 0.95)
_POINT: dict[str, Any] = {"s": 12, "linewidths": 0}


def population_map_figure(
    found: PopulationMap, *, color: Sequence | np.ndarray | None = None, label: str = ""
) -> Figure:
    """A point for every row, coloured by ``color`` (N,), numbers or words, which ``label`` names.

    Rows without a place or a value are left out.
    """
    figure = blank(figsize=(5.6, 4.2))
    axes = figure.subplots()
    values = None if color is None else np.asarray(color)
    if values is None:
        axes.scatter(*found.points.T.tolist(), color=COLORS[0], **_POINT)
    elif values.dtype.kind in "iufb":
        shown = axes.scatter(*found.points.T.tolist(), c=values.astype(float).tolist(), **_POINT)
        figure.colorbar(shown, label=label)
    else:
        _levels(axes, found.points, values)
        figure.legend(loc="outside right upper", frameon=False, title=label)
    name_axes(axes, _component(found, 0), _component(found, 1))
    return figure


def _levels(axes: Axes, points: Tensor, values: np.ndarray) -> None:
    """Points of each different value in a colour of its own."""
    for i, level in enumerate(np.unique(values)):
        x, y = points[torch.from_numpy(values == level)].T.tolist()
        axes.scatter(x, y, color=COLORS[i % len(COLORS)], label=level, **_POINT)


def _component(found: PopulationMap, i: int) -> str:
    share = f", {100 * found.shares[i]:.1f} % of variance" if found.shares else ""
    return f"component {i + 1}{share}"


def population_map_table(
    found: PopulationMap, columns: Mapping[str, Sequence | np.ndarray] | None = None
) -> Table:
    """Columns x, y, and those given; x and y are NaN for rows without a place."""
    x, y = found.points.T.tolist()
    return {"x": x, "y": y} | {n: np.asarray(v).tolist() for n, v in (columns or {}).items()}


def population_spectra_figure(
    profiles: Sequence[TensorProfile], *, chosen: Iterable[int] = ()
) -> Figure:
    """Singular values of each matrix: the middle 90 % of all rows, their median, and ``chosen``."""
    return _bands([p for p in profiles if p.singular_values.shape[1]], "singular_values", chosen)


def population_spectra_table(
    profiles: Sequence[TensorProfile], *, chosen: Iterable[int] = ()
) -> Table:
    """Columns tensor, number, 5 %, 50 %, 95 %, and one for each row of ``chosen``."""
    kept = [p for p in profiles if p.singular_values.shape[1]]
    return _band_table(kept, "singular_values", chosen)


def population_entries_figure(
    profiles: Sequence[TensorProfile], *, chosen: Iterable[int] = ()
) -> Figure:
    """Quantiles of the entries of each tensor: the middle 90 % of rows, median, and ``chosen``."""
    return _bands(profiles, "quantiles", chosen)


def population_entries_table(
    profiles: Sequence[TensorProfile], *, chosen: Iterable[int] = ()
) -> Table:
    """Columns tensor, level (share of entries below), 5 %, 50 %, 95 %, and each of ``chosen``."""
    return _band_table(profiles, "quantiles", chosen)


def _bands(profiles: Sequence[TensorProfile], what: str, chosen: Iterable[int]) -> Figure:
    rows = [*chosen]
    figure, panels = grid_of(len(profiles))
    for axes, profile in zip(panels, profiles, strict=True):
        _draw_band(axes, getattr(profile, what), _places(what, profile), rows=rows)
        axes.set_title(profile.name, fontsize=8)
        name_axes(axes, *_AXES[what])
        if what == "singular_values":
            axes.set_ylim(bottom=0)
    return figure


def _draw_band(axes: Axes, curves: Tensor, places: list[float], *, rows: list[int]) -> None:
    low, middle, high = _band(curves)
    marker = "" if len(places) > 1 else "o"  # a line through one point is not seen
    axes.fill_between(places, low, high, color=COLORS[0], alpha=0.18, linewidth=0)
    axes.plot(places, middle, color=COLORS[0], linewidth=1.2, marker=marker)
    for row in rows:
        axes.plot(places, curves[row].tolist(), color=COLORS[1], linewidth=1, marker=marker)


_AXES = {
    "quantiles": ("share of entries below", "entry"),
    "singular_values": ("number", "singular value"),
}


def _places(what: str, profile: TensorProfile) -> list[float]:
    """Where the values of a curve stand: levels of quantiles, numbers of singular values."""
    if what == "quantiles":
        return [*QUANTILE_LEVELS]
    return [i + 1.0 for i in range(profile.singular_values.shape[1])]


def _band(curves: Tensor) -> list[list[float]]:
    """5, 50 and 95 % of (N, L) over the rows that are finite."""
    return torch.nanquantile(curves, torch.tensor(_BAND), dim=0).tolist()


def _band_table(profiles: Sequence[TensorProfile], what: str, chosen: Iterable[int]) -> Table:
    rows = [*chosen]
    heads = ("tensor", "level" if what == "quantiles" else "number", "5 %", "50 %", "95 %")
    table: Table = {name: [] for name in (*heads, *(f"row {row}" for row in rows))}
    for profile in profiles:
        curves, places = getattr(profile, what), _places(what, profile)
        own = [curves[row].tolist() for row in rows]
        extend(table, [profile.name] * len(places), places, *_band(curves), *own)
    return table


def population_distances_figure(found: PopulationDistances) -> Figure:
    """The matrix of distances before and after alignment, on one scale."""
    figure = blank(figsize=(8, 3.8))
    both, top = figure.subplots(1, 2), float(found.before.max())
    for axes, when in zip(both, ("before", "after"), strict=True):
        shown = axes.imshow(getattr(found, when).tolist(), vmin=0, vmax=top or 1)
        axes.set(title=f"{when} alignment", xticks=[], yticks=[], xlabel="member")
    figure.colorbar(shown, ax=both, label="distance")
    return figure


def population_distances_table(found: PopulationDistances) -> Table:
    """Columns a, b (rows), before, after; every ordered pair once."""
    rows, count = found.rows.tolist(), len(found.rows)
    pairs = [a for a in rows for _ in range(count)], rows * count
    both = found.before.flatten().tolist(), found.after.flatten().tolist()
    return dict(zip(("a", "b", "before", "after"), (*pairs, *both), strict=True))


def population_health_figure(found: PopulationHealth) -> Figure:
    """How many rows have what is wrong with them, and the norms of all."""
    figure = blank(figsize=(8, 2.6))
    left, right = figure.subplots(1, 2)
    _draw_counts(left, _wrong(found))
    name_axes(left, f"of {len(found.norm)} checkpoints", "")
    right.hist(found.norm[found.norm.isfinite()].tolist(), bins=30, color=COLORS[0])
    name_axes(right, "norm of weights", "checkpoints")
    return figure


def _draw_counts(axes: Axes, counts: Mapping[str, int]) -> None:
    bars = axes.barh([*counts], [*counts.values()], color=COLORS[1], height=0.6)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(1, *counts.values()))


def _wrong(found: PopulationHealth) -> dict[str, int]:
    """Numbers of rows; of sets, all rows in them."""
    sets = {"the same weights": found.duplicates, "the same, reordered": found.reordered}
    return {
        "not finite": int((found.not_finite > 0).sum()),
        "zero rows of weights": int((found.dead > 0).sum()),
        "extreme norm": int(found.extreme.sum()),
        **{name: len({row for rows in of for row in rows}) for name, of in sets.items()},
        "in several splits": len({row for rows in found.leaks for row in rows}),
    }


def population_health_table(found: PopulationHealth) -> Table:
    """Columns row, norm, not_finite, dead, extreme, same_as and reordered_of (the first row of the
    set, empty for none), leak.
    """
    columns = ("norm", "not_finite", "dead", "extreme")
    numbers = {name: getattr(found, name).tolist() for name in columns}
    count, sets = len(found.norm), (found.duplicates, found.reordered, found.leaks)
    same, moved, leaks = (_first_of_set(each, count) for each in sets)
    copies = {"same_as": same, "reordered_of": moved, "leak": [each != "" for each in leaks]}
    return {"row": [*range(count)], **numbers, **copies}


def _first_of_set(sets: Iterable[Sequence[int]], count: int) -> list:
    """For each row the first one of its set, empty for a row of none."""
    first = {row: rows[0] for rows in sets for row in rows}
    return [first.get(row, "") for row in range(count)]
