"""The verdict: which arms were beaten, and what is wrong with the generator.

    difference = mean generated - mean arm,     error = sqrt(var / n + var_arm / n_arm)
    beaten if difference > 2 error,  ahead if difference < -2 error,  else not told apart

Over tasks the difference is taken task by task, and its error is that of the mean difference.

    memoriser       networks nearer to a member than half of what members of other runs ever are,
                    whose errors overlap with a member's as much as no two members' do; or that
                    answer exactly like one
    collapse        dispersion ratio below 0.8
    no condition    a random condition, asked for in its place, does as well

Every flag is a statement about draws that were seen; none proves the contrary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from wsl.generative.judge.novelty import Novelty

ERRORS = 2.0
"""Standard errors that a difference needs to count."""

COLLAPSE = 0.8
"""Dispersion ratio below which samples have collapsed."""

KNOWN = 0.05
"""Standard error of a difference from which on "no difference" says something."""


@dataclasses.dataclass(frozen=True)
class ArmComparison:
    """The generator's mean score less an arm's, with its standard error."""

    arm: str
    measure: str
    difference: float
    error: float

    @property
    def beaten(self) -> bool:
        """Whether the arm is behind the generator by more than chance."""
        return self.difference > ERRORS * self.error

    @property
    def ahead(self) -> bool:
        """Whether the generator is behind the arm by more than chance."""
        return self.difference < -ERRORS * self.error

    @property
    def sign(self) -> str:
        """As text: +0.120 ± 0.010."""
        return f"{self.difference:+.3f} ± {self.error:.3f}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Comparisons with every arm by every measure, and flags by name with the reason."""

    comparisons: tuple[ArmComparison, ...]
    flags: Mapping[str, str]

    def against(self, arm: str, measure: str) -> ArmComparison:
        """One comparison; raises KeyError if there is none."""
        for each in self.comparisons:
            if (each.arm, each.measure) == (arm, measure):
                return each
        raise KeyError(f"{arm}: was not compared by {measure}")

    @property
    def summary(self) -> list[str]:
        """For the eye: a sentence; for each measure what is beaten, what not; a line for each flag.

        Arms stand in the order of their distance from the generator.
        """
        measures = dict.fromkeys(each.measure for each in self.comparisons)
        parts = [line for measure in measures for line in self._listed(measure)]
        return [self._sentence(next(iter(measures), None)), *parts, *self._flagged]

    @property
    def lines(self) -> list[str]:
        """One sentence for each measure, then one for each flag: what result files keep."""
        measures = dict.fromkeys(each.measure for each in self.comparisons)
        told = [self._line(measure) for measure in measures]
        return [*told, *(self._flagged or ["no flag was raised"])]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _line(self, measure: str) -> str:
        beaten, apart, ahead = self._kinds(measure)
        verbs = {"beats": beaten, "loses to": ahead, "is not told apart from": apart}
        parts = [f"{verb} {_named(arms)}" for verb, arms in verbs.items() if arms]
        return f"{measure}: generated {'; '.join(parts)}"

    def _sentence(self, measure: str | None) -> str:
        """How many arms by the first measure, and which flags."""
        flags = f"flagged: {', '.join(self.flags)}" if self.flags else "no flag was raised"
        if measure is None:
            return f"Generated networks were compared with nothing; {flags}."
        beaten, apart, ahead = map(len, self._kinds(measure))
        return (
            f"By {measure}, generated networks beat {beaten} of {beaten + apart + ahead} arms, are "
            f"not told apart from {apart} and lose to {ahead}; {flags}."
        )

    def _listed(self, measure: str) -> list[str]:
        names = ("beats", "not told apart", "loses to")
        kinds = zip(names, self._kinds(measure), strict=True)
        return [
            measure,
            *(
                f"  {name}: {_named(sorted(arms, key=lambda each: -abs(each.difference)))}"
                for name, arms in kinds
                if arms
            ),
        ]

    @property
    def _flagged(self) -> list[str]:
        return [f"flag: {name}: {why}" for name, why in self.flags.items()]

    def _kinds(self, measure: str) -> tuple[list[ArmComparison], ...]:
        """Arms that are beaten, those not told apart, and those ahead."""
        mine = [each for each in self.comparisons if each.measure == measure]
        return (
            [each for each in mine if each.beaten],
            [each for each in mine if not each.beaten | each.ahead],
            [each for each in mine if each.ahead],
        )


def _named(arms: Iterable[ArmComparison]) -> str:
    return ", ".join(f"{each.arm} ({each.sign})" for each in arms)


def compared(
    scores: Mapping[str, Tensor], generated: str, *, measure: str, paired: bool = False
) -> tuple[ArmComparison, ...]:
    """Each arm's scores (n,), any number of them, beside those under ``generated``.

    ``paired`` scores are of the same n tasks.
    """
    mine = scores[generated].double()
    found = []
    for arm, theirs in scores.items():
        if arm == generated:
            continue
        other = theirs.double()
        difference = mine - other if paired else mine.mean() - other.mean()
        error = _squared_error(difference) if paired else _squared_error(mine, other)
        found.append(ArmComparison(arm, measure, float(difference.mean()), float(error.sqrt())))
    return tuple(found)


def flags_of(
    generated: Novelty, members: Novelty, comparisons: tuple[ArmComparison, ...], *, measure: str
) -> dict[str, str]:
    """What is wrong, by name."""
    return {
        **_memoriser(generated, members),
        **_collapse(generated),
        **ignored_condition(comparisons, measure=measure),
    }


def ignored_condition(comparisons: tuple[ArmComparison, ...], *, measure: str) -> dict[str, str]:
    """The flag of a generator that does as well for a random condition as for the one wanted."""
    for each in comparisons:
        if (each.arm, each.measure) != ("random_condition", measure):
            continue
        if not each.beaten and each.error <= KNOWN:
            why = f"a random one does as well ({measure} {each.sign})"
            return {"ignores its condition": why}
    return {}


def copies(generated: Novelty, members: Novelty) -> Tensor:
    """(n,) bool: nearer to a member than half the least distance between members of two runs, and
    with errors as much in common as any two of them have.
    """
    near = generated.distance < 0.5 * members.distance.min()
    return near & (generated.iou >= members.iou.max())


def _memoriser(generated: Novelty, members: Novelty) -> dict[str, str]:
    same, most = copies(generated, members), float(members.iou.max())
    guised = torch.zeros_like(same) if generated.same is None else generated.same & ~same
    if guised.any():
        why = (
            f"{int((same | guised).sum())} of {len(same)} networks are copies of members, "
            f"{int(guised.sum())} of them in another guise: weights apart, answers that "
            "are the same on every test item, as by signs or scales of units"
        )
        return {"memoriser": why}
    if same.any():
        why = (
            f"{int(same.sum())} of {len(same)} networks are copies of members: nearest distance "
            f"{float(generated.distance.min()):.3g} where members are at least "
            f"{float(members.distance.min()):.3g} apart, max IoU {float(generated.iou.max()):.2f}"
        )
        return {"memoriser": why}
    # far in weights, and yet the same function: a symmetry that the matcher does not search
    if most < 1 and float(generated.iou.median()) > most:
        median = float(generated.iou.median())
        why = f"median max IoU {median:.2f}, above every pair of members ({most:.2f})"
        return {"acts like members": why}
    return {}


def _collapse(generated: Novelty) -> dict[str, str]:
    ratio = generated.dispersion
    if len(generated.distance) < 2 or ratio >= COLLAPSE:
        return {}
    return {"collapse": f"dispersion ratio {ratio:.2f}, below {COLLAPSE}"}


def _squared_error(*scores: Tensor) -> Tensor:
    """Of a sum of means; a single score counts as exact."""
    each = [x.var() / len(x) if len(x) > 1 else x.new_zeros(()) for x in scores]
    return torch.stack(each).sum()
