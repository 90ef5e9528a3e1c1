"""A task vector moved onto another base: what was learned from one start, added to another.

    pi = the element that brings theta_A to theta_B          pi.theta_A close to theta_B
    theta = theta_B + lambda (pi.theta_A' - pi.theta_A)      theta_A' fine-tuned from theta_A

Without pi the vector acts on units that mean something else. Rinaldi et al. (2025), "Update your
transformer to the latest release: re-basin of task vectors", ICML, arXiv 2505.22697. Theirs assigns
heads by the singular values of their Q, K and V and then the rows inside; here heads are assigned
by their circuits Q^T K and O V (`wsl.matching.CircuitMatching`), which no matrix inside a head
changes either, after the stream between them was aligned. Networks without heads are matched by
their weights.

Guarantees: if theta_B is theta_A under an element that is found, the result at lambda = 1 is
theta_A' under it, to the bit for permutations. Running statistics and counters are those of
theta_B: measure them anew on data. Limitations: bases that were trained apart are only roughly the
same after matching; tune ``scale`` on validation data, as for any task vector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from wsl.matching import CircuitMatching, Match, Matcher, match
from wsl.params import Params, check_alike, is_learned
from wsl.symmetry import PermutationSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Transfused:
    """The other base with the task vector, and the match that moved it."""

    params: Params
    match: Match


def transfuse(
    spec: PermutationSpec,
    tuned: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    *,
    onto: Mapping[str, Tensor],
    matcher: Matcher | None = None,
    scale: float = 1.0,
) -> Transfused:
    """Add what ``tuned`` has learned since ``base`` to another base, ``onto``, where it belongs.

    All three are of the architecture of ``spec``; matcher: `CircuitMatching` unless told.
    Raises ValueError for weights that differ in names or shapes.
    """
    check_alike(base, tuned)
    check_alike(base, onto)
    found = match(spec, onto, base, matcher or CircuitMatching())
    before, after = found(base), found(tuned)
    params = {n: _added(n, t, before[n], after=after[n], scale=scale) for n, t in onto.items()}
    return Transfused(params, found)


def _added(name: str, start: Tensor, before: Tensor, *, after: Tensor, scale: float) -> Tensor:
    """The other base's tensor with the change between two moved ones; what is not learned stays."""
    if not is_learned(name, start):
        return start.clone()
    if scale == 1:
        # the same sum, in an order that is exact where both bases are one
        return (after + (start - before)).to(start.dtype)
    return (start + scale * (after - before)).to(start.dtype)
