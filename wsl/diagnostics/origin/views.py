"""After alignment: do two views of the same units agree on who is who?

    pi_1, pi_2 = assignments of a's units to the aligned b's by two halves of their weights
    F(pi_1^-1 pi_2) = #{i : pi_1(i) = pi_2(i)}

Two views are any split of the places where a group acts: gate and up projections (Zhu et al. 2025,
arXiv 2502.12292, unconstrained test), or incoming and outgoing weights. The largest pieces are
dealt out in turn to whichever view is smaller. b is aligned by matching first, so that a copy whose
units were permuted is seen as well.

There is **no exact null**: one relabelling moves both views, alignment has looked at both, and
trained units differ in kind, so that unrelated networks agree by more than chance. What is found is
described by its numbers, and judged only against background: pairs of a with networks that are
known to be unrelated to it. If b is one more of these, its rank among them is uniform, whence

    p = (1 + #{background >= found}) / (1 + #background)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.diagnostics.origin.fixed_points import assigned, shuffled
from wsl.diagnostics.origin.sites import UnitSite, unit_scores, unit_sites, weights_of
from wsl.matching import Match, Matcher, match
from wsl.symmetry import PermutationSpec


@dataclasses.dataclass(frozen=True)
class GroupAgreement:
    """One group: two views agree on ``agreed`` of ``units``; ``cosine`` is the mean of its units'
    cosines after alignment.
    """

    group: str
    units: int
    agreed: int
    cosine: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All groups that have two views, and the match that aligned b. Groups may be none."""

    groups: Mapping[str, GroupAgreement]
    found: Match = dataclasses.field(repr=False, compare=False)

    @property
    def share(self) -> float:
        """Units on which the views agree, of all; 0 without any group."""
        units = sum(group.units for group in self.groups.values())
        return sum(group.agreed for group in self.groups.values()) / max(1, units)

    @property
    def cosine(self) -> float:
        """Mean cosine of the aligned units; 0 without any group."""
        units = sum(group.units for group in self.groups.values())
        total = sum(group.units * group.cosine for group in self.groups.values())
        return total / max(1, units)


@torch.no_grad()
def agreement(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
    seed: int = 0,
) -> Agreement:
    """Align ``b`` to ``a`` and let two views of every group say which unit is which.

    matcher: weight matching unless told. Groups with one unit, or with a single place, have no two
    views. Errors as in `wsl.match`.
    """
    found = match(spec, a, b, matcher)
    moved = found(b)
    groups: dict[str, GroupAgreement] = {}
    for group, sites in unit_sites(spec, weights_of(a)).items():
        views = split(sites)
        if all(views) and spec.groups[group] > 1:
            groups[group] = _agreed(group, views, a=a, b=moved, seed=seed)
    return Agreement(groups, found)


def rank_p(found: float, background: Sequence[float]) -> float:
    """(1 + #{background >= found}) / (1 + #background): 1 without background."""
    return (1 + sum(value >= found for value in background)) / (1 + len(background))


def split(sites: Sequence[UnitSite]) -> tuple[tuple[UnitSite, ...], tuple[UnitSite, ...]]:
    """Sites in two views of about equal size, the largest pieces first; one may be empty."""
    views: tuple[list[UnitSite], list[UnitSite]] = ([], [])
    sizes = [0, 0]
    for site in sorted(sites, key=lambda site: -math.prod(site.piece.shape)):
        smaller = sizes.index(min(sizes))
        views[smaller].append(site)
        sizes[smaller] += math.prod(site.piece.shape)
    return tuple(views[0]), tuple(views[1])


def _agreed(
    group: str,
    views: Sequence[Sequence[UnitSite]],
    *,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    seed: int,
) -> GroupAgreement:
    shape = views[0][0].rows(a).shape[:2]
    orders = [shuffled(group, shape, seed + k) for k in range(2)]
    one, other = (
        assigned(unit_scores(view, a, b, order=order), order)
        for view, order in zip(views, orders, strict=True)
    )
    scores = unit_scores([*views[0], *views[1]], a, b)
    cosine = scores.diagonal(dim1=1, dim2=2).mean()
    return GroupAgreement(group, one.numel(), int((one == other).sum()), float(cosine))
