"""The trial of one generator: drawn once, beside every other start, scored for worth and novelty.

    scores: accuracy as drawn and after training; distance, errors in common and dispersion beside
    those of the members; share of networks that are good and new

All arms get as many networks and the same training (`trial`); none is selected. Every number stands
beside what the members themselves show with each left out once. Of a task told by examples judge
with `judge_tasks`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wsl.generative.judge.arms import EqualNoveltyStart
from wsl.generative.judge.drawing import GENERATED, drawn_arms
from wsl.generative.judge.novelty import Landscape, Novelty, shares
from wsl.generative.judge.trial import STEPS, Trial, trial
from wsl.generative.judge.verdict import Verdict, compared, flags_of
from wsl.generative.problem import Initializer, Start
from wsl.generative.starts import GeneratedStart
from wsl.params import Params
from wsl.populations import Classification

MEMBERS = "members"
"""The training members among themselves, each left out once."""

EQUAL_NOVELTY = "noise_at_equal_novelty"
"""The arm of members that noise has made as new as the generated networks."""

MARGIN = 0.01
"""How far below the mean accuracy of good members a network may be to count as good."""

DRAWN, TUNED, GOOD_AND_NEW = "accuracy as drawn", "accuracy tuned", "good and new"
"""The measures of a verdict."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """What a generator drew, how it and the other arms fared, its scores, and arms left out.

    left_out: for each arm that could not be drawn, what it needs and the start does not have.
    novelty: of each arm, and of the members among themselves under ``members``.
    bar: the accuracy above which a network is good. shares: N&P over tau, by arm.
    """

    drawn: Params
    trials: Mapping[str, Trial]
    scores: Mapping[str, float]
    left_out: Mapping[str, str]
    novelty: Mapping[str, Novelty]
    bar: float
    shares: Mapping[str, Mapping[float, float]]
    verdict: Verdict

    def best(self, k: int) -> dict[str, Tensor]:
        """Test accuracies (k,) as drawn of each arm's ``k`` best networks by validation images.

        Beside the means over all draws, never in their place: the best of many draws flatters an
        arm that draws widely. Of arms with as many networks as the generator, which are all but a
        few. Raises ValueError for more than there are, or without validation images of their own.
        """
        n = len(self.trials[GENERATED].drawn)
        return {name: t.best(k) for name, t in self.trials.items() if len(t.drawn) == n}


def judge(
    start: Start,
    arms: Mapping[str, Initializer],
    data: Classification,
    *,
    n: int,
    shortlist: int | None = 32,
    training: Mapping[str, Any] | None = None,
    bar: float | None = None,
) -> Judgement:
    """Try ``n`` networks of ``start.fitted`` beside ``n`` of each arm.

    start: with generator, specification, and training members with conditions, the first of which
    says how good a member is. shortlist: members that each sample is matched with, see
    `aligned_nearest`. training: ``steps``, ``lrs``, ``batch_size`` of `trial`.
    bar: by default a point below the mean test accuracy of good members.
    Arms are drawn in their order from one generator, seeded by the start's seed; noise at equal
    novelty is drawn last.
    """
    land = Landscape(start, data.test, shortlist=shortlist, count=n)
    drawn, left_out = drawn_arms(start, {GENERATED: GeneratedStart(), **arms}, n)
    as_new = EqualNoveltyStart(land.distance(drawn[GENERATED]))
    noisy, lacking = drawn_arms(start, {EQUAL_NOVELTY: as_new}, n)
    drawn, left_out = drawn | noisy, left_out | lacking
    how = {"steps": STEPS, **(training or {})}
    trials = trial(start.model, drawn, data, seed=start.seed, **how)
    novelty = {MEMBERS: land.among_themselves(), **{a: land.of(each) for a, each in drawn.items()}}
    natural = float(novelty[MEMBERS].distance.median())
    bar = float(novelty[MEMBERS].accuracy.mean()) - MARGIN if bar is None else bar
    share = shares(novelty, bar=bar, natural=natural)
    scores = {
        "networks": n,
        "fine_tuning_steps": how["steps"],
        **_worth(trials),
        **_new(novelty),
        "good_and_new": share[GENERATED][1.0],
    }
    verdict = _verdict(trials, novelty, bar=bar, natural=natural)
    return Judgement(
        drawn[GENERATED], trials, scores, left_out, novelty, bar=bar, shares=share, verdict=verdict
    )


def _worth(trials: Mapping[str, Trial]) -> dict[str, float]:
    generated = trials[GENERATED]
    found = {
        "accuracy_as_drawn": float(generated.drawn.mean()),
        "accuracy_as_drawn_spread": float(generated.drawn.std()),
        "accuracy_tuned": float(generated.tuned.mean()),
        **{
            f"accuracy_tuned_from_{name}": float(trials[name].tuned.mean())
            for name in ("default_init", "retrieval")
            if name in trials
        },
    }
    if "round_trip" in trials:
        found["accuracy_after_round_trip"] = float(trials["round_trip"].drawn.mean())
    return found


def _new(novelty: Mapping[str, Novelty]) -> dict[str, float]:
    """Distances, errors and spread of the generated networks beside those of the members."""
    mine, theirs = novelty[GENERATED], novelty[MEMBERS]
    return {
        "nearest_member_distance": float(mine.distance.median()),
        "nearest_member_distance_min": float(mine.distance.min()),
        "distance_between_good_members": float(theirs.distance.median()),
        "dispersion_ratio": mine.dispersion,
        "max_iou": float(mine.iou.mean()),
        "max_iou_between_members": float(theirs.iou.mean()),
        "disagreement_with_nearest_member": float(mine.disagreement.mean()),
        "disagreement_between_members": float(theirs.disagreement.mean()),
        "ensemble_gain": float(mine.gain.mean()),
        "ensemble_gain_of_a_member": float(theirs.gain.mean()),
    }


def _verdict(
    trials: Mapping[str, Trial], novelty: Mapping[str, Novelty], *, bar: float, natural: float
) -> Verdict:
    measures: dict[str, dict[str, Tensor]] = {
        DRAWN: {name: each.drawn for name, each in trials.items()},
        TUNED: {name: each.tuned for name, each in trials.items()},
        GOOD_AND_NEW: {
            name: novelty[name].good_and_new(1.0, bar=bar, natural=natural) for name in trials
        },
    }
    found = tuple(
        each
        for measure, scores in measures.items()
        for each in compared(scores, GENERATED, measure=measure)
    )
    flags = flags_of(novelty[GENERATED], novelty[MEMBERS], found, measure=DRAWN)
    return Verdict(found, flags)
