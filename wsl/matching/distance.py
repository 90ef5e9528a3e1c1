"""Distances between networks that do not see how their units are ordered.

    d(a, b) = ||a - g.b||,  g = match(a, b)          over the tensors that are aligned

An upper bound of the true minimum over g, which is NP-hard; it is 0 for networks that matching
proves to be the same. The nearest of many candidates is found by matching them in order of a lower
bound that needs none, and stopping when it exceeds the best distance: the answer is that of
matching every candidate. For permutations it is the rearrangement inequality on each tensor t,

    ||sort(a_t) - sort(b_t)|| <= ||a_t - (g.b)_t||

and the same of absolute values where signs are searched too. Other elements have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.many import check_rows
from wsl.matching.problem import check_finite, match
from wsl.matching.result import Matcher
from wsl.matching.solvers import BUFFERS, WeightMatching, aligned_tensors, squared_distance
from wsl.symmetry import PermutationSpec, SpecError


@torch.no_grad()
def aligned_distance(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
) -> float:
    """Euclidean distance of ``b`` from ``a`` after matching, over the aligned tensors.

    Those are the floating tensors without batch-norm statistics, or without what a
    `WeightMatching` ignores. Errors as in `wsl.match`.
    """
    matcher = matcher or WeightMatching()
    moved = match(spec, a, b, matcher)(b)
    return float(squared_distance(a, moved, _names(a, matcher)) ** 0.5)


@torch.no_grad()
def nearest(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    candidates: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
) -> tuple[int, float]:
    """Index and `aligned_distance` of the stacked candidate closest to ``a``.

    Of equals, the one with the smaller bound. Raises `SpecError` unless ``candidates`` has exactly
    one leading axis, of at least one member.
    """
    matcher = matcher or WeightMatching()
    _check(spec, a, candidates)
    bounds = _lower_bounds(a, candidates, matcher)
    best, least = -1, float("inf")
    for i in bounds.argsort(stable=True).tolist():
        if bounds[i] >= least:
            break
        candidate = {name: tensor[i] for name, tensor in candidates.items()}
        distance = aligned_distance(spec, a, candidate, matcher=matcher)
        if distance < least:
            best, least = i, distance
    return best, least


def _check(
    spec: PermutationSpec, a: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
) -> None:
    check_rows(spec, candidates, "candidates", one="member")
    if lead := spec.validate(a):
        raise SpecError(
            f"a: has batch axes {tuple(lead)}, but nearest takes one checkpoint; index or unstack "
            "it first"
        )
    check_finite(candidates, "candidates")


def _lower_bounds(
    a: Mapping[str, Tensor], candidates: Mapping[str, Tensor], matcher: Matcher
) -> Tensor:
    """A bound of each candidate's distance, less what rounding may add; 0 without one."""
    total = torch.zeros(len(next(iter(candidates.values()))), dtype=torch.float64)
    if not matcher.searches <= {"permutation", "sign"}:
        return total
    unsigned = "sign" in matcher.searches
    for name in _names(a, matcher):
        mine, theirs = (_in_order(t, unsigned=unsigned) for t in (a[name][None], candidates[name]))
        total += (theirs.double() - mine.to(theirs).double()).square().sum(-1).cpu()
    return total.sqrt() * (1 - 1e-9)


def _in_order(rows: Tensor, *, unsigned: bool) -> Tensor:
    """All entries of each row (N, *shape), or their absolute values, in ascending order."""
    values = rows.reshape(len(rows), -1)
    return (values.abs() if unsigned else values).sort(-1).values


def _names(a: Mapping[str, Tensor], matcher: Matcher) -> tuple[str, ...]:
    ignore = matcher.ignore if isinstance(matcher, WeightMatching) else BUFFERS
    return aligned_tensors(a, ignore)
