"""Everything that the page shows of one architecture: maps, tensors, distances, health, structure.

Files of one architecture are one population here, whatever their columns are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.cli.look.encode import encoded
from wsl.cli.look.graph import graph
from wsl.cli.look.shown import Shown, drawn_rows
from wsl.cli.terminal import progress
from wsl.diagnostics import (
    QUANTILE_LEVELS,
    PopulationDistances,
    PopulationHealth,
    PopulationMap,
    TensorProfile,
    align_members,
    last_rows,
    learned_tensors,
    member_weights,
    pca_map,
    population_distances,
    population_health,
    tensor_profiles,
    tsne_map,
)
from wsl.zoo import Checkpoints

_DETAILED = 1_200_000
"""Bytes of a page for the curves of single members."""
_TENSORS = 40
"""Tensors that are drawn; a page of hundreds of panels helps nobody."""
_SPECTRA = 2e10
"""Multiplications that singular values may take: seconds."""


def section(shown: Shown, health: PopulationHealth, embedded: Tensor | None) -> dict[str, Any]:
    """The section of the page; ``embedded`` (N, F) is what a functional sees of each row."""
    zoo = shown.zoo
    return {
        "weights": sum(zoo.shapes[name].numel() for name in learned_tensors(zoo)),
        "spec": str(zoo.spec),
        "graph": graph(zoo.spec),
        "maps": _maps(shown, embedded),
        **_tensors(shown),
        "distances": _distances(shown),
        "health": _health(health),
        "notes": shown.notes,
    }


def _maps(shown: Shown, embedded: Tensor | None) -> list[dict[str, Any]]:
    """Maps of the weights as they are, aligned, and of embeddings; those that there are."""
    kinds = [("weights", member_weights(shown.zoo)), ("aligned weights", _aligned(shown))]
    kinds.append(("embeddings", embedded))
    maps = []
    for name, rows in kinds:
        if rows is None:
            continue
        maps.append(_map(f"PCA of {name}", pca_map(rows, seed=shown.limits.seed)))
        if shown.limits.tsne:
            maps.append(_map(f"t-SNE of {name}", _neighbours(shown, name, rows)))
    return maps


def _neighbours(shown: Shown, name: str, rows: Tensor) -> PopulationMap:
    found = tsne_map(rows, seed=shown.limits.seed)
    places, known = (int(t.isfinite().all(1).sum()) for t in (found.points, rows))
    if places < known:
        shown.note(f"t-SNE of {name}: {places} of {known} checkpoints, drawn")
    return found


def _map(name: str, found: PopulationMap) -> dict[str, Any]:
    x, y = found.points.T
    return {"name": name, "shares": list(found.shares), "x": encoded(x), "y": encoded(y)}


def _aligned(shown: Shown) -> Tensor | None:
    """Aligned weights (N, P), unless nothing can or shall be aligned."""
    zoo, most = shown.zoo, shown.limits.align
    if not zoo.spec.groups:
        shown.note("aligned weights: the specification has no groups, so nothing moves")
        return None
    members = len(last_rows(zoo))
    if not most or members < 2:
        return None
    try:
        found = align_members(
            zoo, most=most, seed=shown.limits.seed, progress=progress("member aligned")
        )
    except ValueError as error:
        shown.note(f"aligned weights: {error}")
        return None
    if found.members < members:
        shown.note(f"aligned weights: {found.members} of {members} members; --align N shows more")
    return found.weights if found.members > 1 else None


def _tensors(shown: Shown) -> dict[str, Any]:
    """Curves of each tensor for members at their last checkpoint: band, and one by one."""
    zoo = shown.zoo
    drawn, rows = _detailed(shown), last_rows(zoo)
    profiles = tensor_profiles(zoo, drawn)
    if len(drawn) < len(rows):
        shown.note(f"distributions and spectra: {len(drawn)} of {len(rows)} members")
    if len(profiles) > _TENSORS:
        shown.note(f"distributions and spectra: the first {_TENSORS} of {len(profiles)} tensors")
    return {
        "levels": list(QUANTILE_LEVELS),
        "detailed": encoded(drawn, "i4"),
        "tensors": [_curves(profile) for profile in profiles[:_TENSORS]],
    }


def _curves(profile: TensorProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "shape": list(profile.shape),
        "quantiles": encoded(profile.quantiles),
        "spectra": encoded(profile.singular_values),
        "count": profile.singular_values.shape[1],
    }


def _detailed(shown: Shown) -> np.ndarray:
    """Rows, the last of their members, as many as there is room and time for."""
    zoo, rows = shown.zoo, last_rows(shown.zoo)
    names = learned_tensors(zoo)
    costs = [_cost(zoo.shapes[name]) for name in names]
    values, work = (sum(each) for each in zip(*costs, strict=True)) if costs else (1, 1)
    room = min(_DETAILED // (4 * values), int(_SPECTRA / max(1, work)))
    return drawn_rows(rows, max(1, room), shown.limits.seed)


def _cost(shape: torch.Size) -> tuple[int, int]:
    """Numbers that a tensor's curves are, and multiplications that they take."""
    small = min(shape[0], shape[1:].numel()) if len(shape) > 1 else 0
    return len(QUANTILE_LEVELS) + min(16, small), 4 * shape.numel() * small


def _distances(shown: Shown) -> dict[str, Any] | None:
    """Both matrices, of members at their last checkpoint."""
    zoo, limits, ends = shown.zoo, shown.limits, last_rows(shown.zoo)
    rows = drawn_rows(ends, limits.pairs, limits.seed)
    if len(rows) < 2:
        return None
    if len(rows) < len(ends):
        shown.note(f"distances: {len(rows)} of {len(ends)} members; --pairs N shows more")
    try:
        found = population_distances(zoo, rows, progress=progress("member compared"))
    except ValueError as error:
        shown.note(f"distances: {error}")
        return None
    return _matrices(found)


def _matrices(found: PopulationDistances) -> dict[str, Any]:
    both = {"before": encoded(found.before), "after": encoded(found.after)}
    return {"rows": encoded(found.rows, "i4"), **both}


def _health(found: PopulationHealth) -> dict[str, Any]:
    """Sets of rows that hold one network, and rows whose norm is out of scale."""
    return {
        "extreme": [int(row) for row in found.extreme.nonzero()[:, 0]],
        "duplicates": found.duplicates,
        "reordered": found.reordered,
        "leaks": found.leaks,
    }


def measured(zoo: Checkpoints) -> tuple[PopulationHealth, dict[str, np.ndarray]]:
    """What health has to say, and those parts of it that are columns."""
    found = population_health(zoo)
    return found, {
        "norm of weights": found.norm.numpy(),
        "dead units": found.dead.numpy(),
        "values not finite": found.not_finite.numpy(),
    }
