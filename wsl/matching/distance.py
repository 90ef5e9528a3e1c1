"""Distances between networks that do not see how their units are ordered.

    d(a, b) = ||a - g.b||,  g = match(a, b)          over the tensors that the matcher lets vote

An upper bound of the true minimum over g, which is NP-hard; it is 0 for networks that matching
proves to be the same. The nearest of many candidates is found by matching them in order of a lower
bound that needs none, ``||sort(a_t) - sort(b_t)|| <= ||a_t - (g.b)_t||`` for each tensor t (the
rearrangement inequality), and stopping when it exceeds the best distance: the answer is that of
matching every candidate.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.problem import check_finite, match
from wsl.matching.solvers import WeightMatching, voters
from wsl.symmetry import PermutationSpec, SpecError


@torch.no_grad()
def aligned_distance(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    matcher: WeightMatching | None = None,
) -> float:
    """Euclidean distance of ``b`` from ``a`` after matching, over the tensors that vote; errors as
    in `wsl.match`.
    """
    matcher = matcher or WeightMatching()
    moved = match(spec, a, b, matcher).permutation(b)
    return float(sum(_squared(a[name], moved[name]) for name in voters(a, matcher.ignore)) ** 0.5)


@torch.no_grad()
def nearest(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    candidates: Mapping[str, Tensor],
    *,
    matcher: WeightMatching | None = None,
) -> tuple[int, float]:
    """Index and `aligned_distance` of the stacked candidate closest to ``a``; of equals, the one
    with the smaller bound.

    Raises `SpecError` unless ``candidates`` has exactly one leading axis, of at least one member.
    """
    matcher = matcher or WeightMatching()
    if len(batch := spec.validate(candidates)) != 1 or not batch[0]:
        raise SpecError(
            f"candidates: leading axes {tuple(batch)}, but one axis with at least one member is "
            "needed; see params.stack"
        )
    if lead := spec.validate(a):
        raise SpecError(
            f"a: has batch axes {tuple(lead)}, but nearest takes one checkpoint; index or unstack "
            "it first"
        )
    check_finite(candidates, "candidates")
    bounds = _lower_bounds(a, candidates, voters(a, matcher.ignore))
    best = (-1, float("inf"))
    for i in bounds.argsort(stable=True).tolist():
        if bounds[i] >= best[1]:
            break
        distance = aligned_distance(
            spec, a, {name: tensor[i] for name, tensor in candidates.items()}, matcher=matcher
        )
        best = min(best, (i, distance), key=lambda pair: pair[1])
    return best


def _lower_bounds(
    a: Mapping[str, Tensor], candidates: Mapping[str, Tensor], names: tuple[str, ...]
) -> Tensor:
    count = len(next(iter(candidates.values())))
    total = torch.zeros(count, dtype=torch.float64)
    for name in names:
        theirs = candidates[name].reshape(count, -1).sort(-1).values
        mine = a[name].flatten().sort().values.to(theirs)
        total += (theirs.double() - mine.double()).square().sum(-1).cpu()
    return total.sqrt() * (1 - 1e-9)


def _squared(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.to(a.device).double()).square().sum())
