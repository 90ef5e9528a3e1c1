"""The trial of one generator: drawn once, beside every other start, scored for worth and novelty.

    scores: accuracy as drawn and after training, distance to the nearest member, dispersion

All arms get as many networks and the same training (`trial`); none is selected. Novelty is said
beside the distances between good members, since a distance alone means nothing (`aligned_nearest`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from wsl.generative.judge.evaluate import aligned_nearest, dispersion_ratio, leave_one_out
from wsl.generative.judge.trial import STEPS, Trial, trial
from wsl.generative.problem import Initializer, Start
from wsl.generative.starts import GeneratedStart, starting_weights
from wsl.params import Params
from wsl.populations import Classification

GENERATED = "generated"
"""The arm of the generator that is judged."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """What a generator drew, how it and the other arms fared, its scores, and arms left out.

    left_out: for each arm that could not be drawn, what it needs and the start does not have.
    """

    drawn: Params
    trials: Mapping[str, Trial]
    scores: Mapping[str, float]
    left_out: Mapping[str, str]


def judge(
    start: Start,
    arms: Mapping[str, Initializer],
    data: Classification,
    *,
    n: int,
    shortlist: int | None = 32,
    training: Mapping[str, Any] | None = None,
) -> Judgement:
    """Try ``n`` networks of ``start.fitted`` beside ``n`` of each arm.

    start: with generator, specification, and training members with conditions, the first of which
    says how good a member is. shortlist: members that each sample is matched with, see
    `aligned_nearest`. training: ``steps``, ``lrs``, ``batch_size`` of `trial`.
    Arms are drawn in their order from one generator, seeded by the start's seed.
    """
    drawn, left_out = _drawn(start, {GENERATED: GeneratedStart(), **arms}, n)
    how = {"steps": STEPS, **(training or {})}
    trials = trial(start.model, drawn, data, seed=start.seed, **how)
    scores = {
        "networks": n,
        "fine_tuning_steps": how["steps"],
        **_worth(trials),
        **_novelty(start, drawn[GENERATED], shortlist=shortlist),
    }
    return Judgement(drawn[GENERATED], trials, scores, left_out)


def _drawn(
    start: Start, arms: Mapping[str, Initializer], n: int
) -> tuple[dict[str, Params], dict[str, str]]:
    """The weights of each arm; and of those that cannot be drawn, what they need."""
    drawn, left_out, rng = {}, {}, torch.Generator().manual_seed(start.seed)
    for name, method in arms.items():
        lacking = [need for need in sorted(method.needs) if getattr(start, need) is None]
        if lacking and name != GENERATED:
            left_out[name] = f"{type(method).__name__} needs {lacking[0]}"
        else:
            drawn[name] = starting_weights(method, start, n, generator=rng)
    return drawn, left_out


def _worth(trials: Mapping[str, Trial]) -> dict[str, float]:
    generated = trials[GENERATED]
    return {
        "accuracy_as_drawn": float(generated.drawn.mean()),
        "accuracy_as_drawn_spread": float(generated.drawn.std()),
        "accuracy_tuned": float(generated.tuned.mean()),
        **{
            f"accuracy_tuned_from_{name}": float(trials[name].tuned.mean())
            for name in ("default_init", "retrieval")
            if name in trials
        },
    }


def _novelty(start: Start, samples: Params, *, shortlist: int | None) -> dict[str, float]:
    """Distances and spread, after all networks are brought to one reference."""
    spec, members, align = start.spec, start.members, start.canonicalizer
    if spec is None or members is None or align is None:
        raise ValueError("judge: the start needs a specification, and training members")
    drawn = align(samples)
    real = dataclasses.replace(members, params=align(members.params, member=members.member))
    near = aligned_nearest(spec, drawn, real.params, shortlist=shortlist).distance
    # As many of the best members as there are samples: what is asked for is to be as good as these.
    best = members.quality.argsort(descending=True)[: len(near)]
    own = leave_one_out(
        spec, real.params, rows=best, member=real.runs, shortlist=shortlist
    ).distance
    return {
        "nearest_member_distance": float(near.median()),
        "nearest_member_distance_min": float(near.min()),
        "distance_between_good_members": float(own.median()),
        "dispersion_ratio": dispersion_ratio(drawn, real.rows(best)),
    }
