"""Is what was drawn new, and good at the same time? Every number beside what members show.

    d_i    distance of network i to the nearest member, after alignment
    d0     median of d over good members, each left out once
    N&P(tau) = share of networks with   accuracy_i > bar   and   d_i > tau d0

Zeng et al. (2025), arXiv 2506.07998; Wang et al. (2026), arXiv 2605.18632. A member as it is has
d = 0, noise of any size buys distance with accuracy: so the share is read over several tau, beside
that of the arms. The members' own row, with each left out once, says what fresh seeds would reach.
Distances are up to the symmetries of the specification. A network that answers like a member on
every test item, probabilities and all, is that member in another guise (signs of odd units, scales
of others), and is never new; errors in common show what is only nearly so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.generative.codes import Canonicalizer
from wsl.generative.judge.behaviour import answers, ensemble_gain, largest_overlap, predictions
from wsl.generative.judge.distances import aligned_nearest, dispersion_ratio, leave_one_out
from wsl.generative.problem import Start, TrainingMembers
from wsl.params import Params
from wsl.populations import Examples
from wsl.symmetry import PermutationSpec

TAUS = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Multiples of the distance between good members at which the share is told."""

NATURAL = 32
"""Good members that are left out in turn, or as many as there are samples, if those are more."""

ROUNDING, ALIKE = 1e-3, 0.999
"""Probabilities that differ by less everywhere are the same; answers to so many items must be."""


@dataclasses.dataclass(frozen=True, eq=False)
class Novelty:
    """How n networks lie among the training members, and how they act beside them.

    accuracy: on the test items, (n,). distance: to the nearest member after alignment, (n,).
    iou: the largest intersection over union of errors with any member, (n,).
    disagreement: with the nearest member, share of test items, (n,).
    gain: in accuracy when added to a few members, (n,). dispersion: see `dispersion_ratio`.
    same: (n,) bool, whether it answers exactly like a member, up to rounding; None: not looked at.
    """

    accuracy: Tensor
    distance: Tensor
    iou: Tensor
    disagreement: Tensor
    gain: Tensor
    dispersion: float
    same: Tensor | None = None

    def good_and_new(self, tau: float, *, bar: float, natural: float) -> Tensor:
        """(n,) bool: accuracy above ``bar``, and distance above ``tau`` times ``natural``."""
        found = (self.accuracy > bar) & (self.distance > tau * natural)
        return found if self.same is None else found & ~self.same


class Landscape:
    """The training members as a background: aligned once, run once on the test items.

    Good members are the best checkpoints of the best runs, by the members' quality.
    """

    def __init__(self, start: Start, test: Examples, *, shortlist: int | None, count: int) -> None:
        self.spec, self.members, self.align = _known(start)
        self.test, self.shortlist, self.seed = test, shortlist, start.seed
        self.model: nn.Module = start.model
        self.runs = self.members.runs
        self.params: Params = self.align(self.members.params, member=self.members.member)
        self.good = _best_of_runs(self.members.quality, self.runs)[: max(count, NATURAL)]
        self.said = predictions(self.model, self.params, test)
        self.wrong = self.said != test.labels
        self.probabilities = answers(self.model, self._rows(self.good), test)

    def among_themselves(self) -> Novelty:
        """The good members, each beside those of other runs."""
        near = leave_one_out(
            self.spec, self.params, rows=self.good, member=self.runs, shortlist=self.shortlist
        )
        own = self.runs[self.good][:, None] == self.runs
        iou = largest_overlap(self.wrong[self.good], self.wrong, own=own)
        said = self.said[self.good]
        gains = [self._gain(self.probabilities[[i]], but=i) for i in range(len(self.good))]
        return Novelty(
            (said == self.test.labels).double().mean(1),
            near.distance,
            iou,
            (said != self.said[near.index]).double().mean(1),
            torch.cat(gains),
            1.0,
        )

    def of(self, samples: Params) -> Novelty:
        """Networks (n, ...), drawn anyhow."""
        drawn = self.align(samples)
        near = aligned_nearest(self.spec, drawn, self.params, shortlist=self.shortlist)
        probabilities = answers(self.model, samples, self.test)
        said = probabilities.argmax(-1)
        return Novelty(
            (said == self.test.labels).double().mean(1),
            near.distance,
            largest_overlap(said != self.test.labels, self.wrong),
            (said != self.said[near.index]).double().mean(1),
            self._gain(probabilities),
            dispersion_ratio(drawn, self._rows(self.good)),
            self._same(probabilities),
        )

    def _same(self, probabilities: Tensor) -> Tensor:
        """(n,) bool: whether some member answers all items alike, to within `ROUNDING`."""
        found = torch.zeros(len(probabilities), dtype=torch.bool)
        for i, one in enumerate(probabilities):
            # only members that give the same answers are run again, which are few
            alike = (self.said == one.argmax(-1)).double().mean(1) >= ALIKE
            rows = alike.nonzero()[:, 0]
            if len(rows):
                theirs = answers(self.model, self._rows(rows), self.test)
                found[i] = bool(((theirs - one).abs().amax((1, 2)) < ROUNDING).any())
        return found

    def distance(self, samples: Params) -> float:
        """Median distance to the nearest member."""
        near = aligned_nearest(
            self.spec, self.align(samples), self.params, shortlist=self.shortlist
        )
        return float(near.distance.median())

    def _rows(self, chosen: Tensor) -> Params:
        return {name: tensor[chosen] for name, tensor in self.params.items()}

    def _gain(self, probabilities: Tensor, *, but: int | None = None) -> Tensor:
        rng = torch.Generator().manual_seed(self.seed)
        kept = torch.arange(len(self.good)) != (-1 if but is None else but)
        return ensemble_gain(
            probabilities, self.probabilities[kept], self.test.labels, generator=rng
        )


def shares(
    novelty: Mapping[str, Novelty], *, bar: float, natural: float
) -> dict[str, dict[float, float]]:
    """N&P over `TAUS`, by arm."""
    return {
        name: {
            tau: float(each.good_and_new(tau, bar=bar, natural=natural).double().mean())
            for tau in TAUS
        }
        for name, each in novelty.items()
    }


def _best_of_runs(quality: Tensor, runs: Tensor) -> Tensor:
    """The best row of each run, the best run first."""
    order = quality.argsort(descending=True, stable=True)
    ranked, seen = runs[order].tolist(), set[int]()
    first = [i for i, run in enumerate(ranked) if not (run in seen or seen.add(run))]
    return order[first]


def _known(start: Start) -> tuple[PermutationSpec, TrainingMembers, Canonicalizer]:
    spec, members, align = start.spec, start.members, start.canonicalizer
    if spec is None or members is None or align is None:
        raise ValueError("judge: the start needs a specification, and training members")
    return spec, members, align
