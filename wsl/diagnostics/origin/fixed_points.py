"""Common origin: do the units of two networks stand in the same places by more than chance?

    pi = argmax_pi sum_i S[i, pi(i)]      F = #{i : pi(i) = i}      p = P(F' >= F),  F' rencontres

S holds the cosines of a's units with b's, all other axes as they are. **Null**: b was trained apart
from a, its units were exchangeable when it was initialised, and training is equivariant; then the
law of b's weights is that of g.b for every g of the group, pi(a, g.b) = g^-1 pi(a, b), so pi is
uniform whatever a is: the test is exact. Groups that share no tensor are moved by independent
elements that do not see each other's S, hence their F are independent; others are combined by
Bonferroni (`combine`). So are groups that began as copies of each other, as the layers of torch's
own encoder do: their units stand in the same places within a. Ties are broken at random: b's units
are shuffled first.

After the constrained test of Zhu et al. (2025), arXiv 2502.12292, with fixed points in the place of
rank correlation, to which a copy of 2 % of the units is invisible.

What it finds is any shared history: fine-tuning, pruning, averaging, grafts of a few units, and two
trainings from one initialisation. What it does not find: a copy whose units were permuted (see
`agreement`), and distillation, which copies the function and no weight.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Container, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics.origin.combine import colours, log_bonferroni, log_fisher
from wsl.diagnostics.origin.rencontres import log_law, log_tail
from wsl.diagnostics.origin.sites import UnitSite, unit_scores, unit_sites, weights_of
from wsl.matching import assign
from wsl.symmetry import PermutationSpec, check_one

_TWINS = 1e-3
"""Fixed points between two groups of one network, from which they are taken for copies."""


@dataclasses.dataclass(frozen=True)
class GroupOrigin:
    """The test of one group: ``fixed`` of ``size * copies`` units are assigned to themselves.

    log_p: natural logarithm of P(F >= fixed). cosine: mean over all units of a with the same unit
    of b. tensors: those that took part. twin: the first group that this one began as a copy of.
    """

    group: str
    size: int
    copies: int
    fixed: int
    cosine: float
    tensors: tuple[str, ...] = dataclasses.field(repr=False)
    twin: str = ""

    @property
    def log_p(self) -> float:
        """log P(F >= fixed) under the law of rencontres."""
        return log_tail(self.size, self.fixed, self.copies)

    def randomized_p(self, uniform: float) -> float:
        """P(F > fixed) + uniform P(F = fixed): exactly uniform under the null for a uniform draw.

        F takes few values, so that p itself is larger than uniform under the null.
        """
        above = math.exp(log_tail(self.size, self.fixed + 1, self.copies))
        return above + uniform * math.exp(log_law(self.size, self.copies)[self.fixed])


@dataclasses.dataclass(frozen=True)
class CommonOrigin:
    """The tests of all groups, and of all of them together.

    classes: groups that share no tensor and are no twins within a class, combined by Fisher; over
    classes by Bonferroni. left_out: groups that cannot be tested, with the reason.
    """

    groups: Mapping[str, GroupOrigin]
    left_out: Mapping[str, str]

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Names of groups in classes that share no tensor, and of which no two are twins."""
        apart = {
            name: (*g.tensors, f"twins of {g.twin or name}") for name, g in self.groups.items()
        }
        return colours(apart)

    @property
    def log_p(self) -> float:
        """Natural logarithm of the p-value of all groups together; 0 without any."""
        log_ps = [[self.groups[name].log_p for name in names] for names in self.classes]
        return log_bonferroni([log_fisher(each) for each in log_ps])

    @property
    def log10_p(self) -> float:
        """The same to base 10: -6 is p = 1e-6."""
        return self.log_p / math.log(10)

    @property
    def fixed(self) -> tuple[int, int]:
        """Units in place and units tested, over all groups."""
        found = self.groups.values()
        return sum(g.fixed for g in found), sum(g.size * g.copies for g in found)


@torch.no_grad()
def common_origin(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    leave_out: Container[str] = (),
    seed: int = 0,
) -> CommonOrigin:
    """Test every group of ``spec`` for units of ``b`` in the places of ``a``'s.

    a, b: one checkpoint each, as they are. leave_out: tensors that do not take part, such as codes
    of positions that no training made. seed: of the random order in which ties are broken. Raises
    `SpecError` for weights that do not fit and ValueError for those that are not finite.
    """
    check_one(spec, a, "a")
    check_one(spec, b, "b")
    every = unit_sites(spec, [name for name in weights_of(a) if name not in leave_out])
    left_out = _left_out(spec, every)
    sites = {group: own for group, own in every.items() if group not in left_out}
    twin = _twins(sites, a, seed)
    found = {
        group: dataclasses.replace(
            _tested(group, own, a=a, b=b, seed=seed), twin=twin.get(group, "")
        )
        for group, own in sites.items()
    }
    return CommonOrigin(found, left_out)


def _left_out(spec: PermutationSpec, sites: Mapping[str, Sequence[UnitSite]]) -> dict[str, str]:
    """The groups that cannot be tested, with the reason."""
    reasons = {}
    for group, own in sites.items():
        if spec.groups[group] < 2:
            reasons[group] = "has a single unit"
        elif not own:
            reasons[group] = "no tensor that takes part has it once"
    return reasons


def assigned(scores: Tensor, order: Tensor) -> Tensor:
    """The best assignment (copies, units), where ``scores`` has b's units in ``order``."""
    if not bool(scores.isfinite().all()):
        raise ValueError(
            "a weight is NaN or infinite, so that units cannot be compared; leave out checkpoints "
            "that diverged"
        )
    return order.gather(1, assign(scores))


def shuffled(group: str, shape: Sequence[int], seed: int) -> Tensor:
    """A random order of the units for each copy, the same for the same group and seed."""
    rng = np.random.default_rng((seed, zlib.crc32(group.encode())))
    copies, size = shape
    return torch.from_numpy(np.stack([rng.permutation(size) for _ in range(copies)]))


def _twins(
    sites: Mapping[str, Sequence[UnitSite]], a: Mapping[str, Tensor], seed: int
) -> dict[str, str]:
    """For each group whose units stand where those of the last group like it stand, the first."""
    last: dict[object, str] = {}
    twin: dict[str, str] = {}
    for group, own in sites.items():
        kind = tuple((site.piece.shape, site.axis, site.parent) for site in own)
        before = last.get(kind)
        last[kind] = group
        if before is not None and _in_place(sites[before], own, a, seed=seed):
            twin[group] = twin.get(before, before)
    return twin


def _in_place(
    ours: Sequence[UnitSite], theirs: Sequence[UnitSite], a: Mapping[str, Tensor], *, seed: int
) -> bool:
    """Whether the units of two groups of one network stand in the same places: all, or by far more
    than chance.
    """
    copies, size, _ = ours[0].rows(a).shape
    order = shuffled(theirs[0].piece.tensor, (copies, size), seed)
    scores = unit_scores(ours, a, a, order=order, theirs=theirs)
    fixed = _fixed_points(scores, order)
    return fixed == size * copies or log_tail(size, fixed, copies) <= math.log(_TWINS)


def _fixed_points(scores: Tensor, order: Tensor) -> int:
    """How many units the best assignment leaves where they are."""
    return int((assigned(scores, order) == torch.arange(order.shape[1])).sum())


def _tested(
    group: str,
    sites: Sequence[UnitSite],
    *,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    seed: int,
) -> GroupOrigin:
    copies, size, _ = sites[0].rows(a).shape
    order = shuffled(group, (copies, size), seed)
    # The products are taken in the shuffled order too: rounding may decide between equal units.
    scores = unit_scores(sites, a, b, order=order)
    fixed = _fixed_points(scores, order)
    cosine = scores.take_along_dim(order.argsort(1)[..., None], 2).mean()
    tensors = tuple(dict.fromkeys(site.piece.tensor for site in sites))
    return GroupOrigin(group, size, copies, fixed, float(cosine), tensors)
