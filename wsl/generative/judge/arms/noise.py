"""Noise at equal novelty: members moved as far from all members as the generated networks are.

    theta_n + s std(theta_n) eps,    s such that  median d = the generated networks' median d

Novelty by itself is cheap: any amount is to be had by noise. So a generator's accuracy is compared
with that of members which noise has made exactly as new. Zeng et al. (2025), arXiv 2506.07998, find
that published generators often lose. d grows with s from 0 without bound, and almost linearly, so
that a few steps of regula falsi on its proportion find s; what was reached is checked by the judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch

from wsl.generative.judge.distances import aligned_nearest
from wsl.generative.models import noise_baseline
from wsl.generative.problem import Start
from wsl.params import Params

_TRIES, _CLOSE = 8, 0.02


def scale_of_novelty(distance: Callable[[float], float], wanted: float) -> float:
    """The scale of noise at which ``distance(scale)``, which grows with it, is ``wanted``.

    Within two percent, or after eight tries; 0 where nothing is wanted.
    """
    if wanted <= 0:
        return 0.0
    low, high, scale = 0.0, float("inf"), 0.5
    for _ in range(_TRIES):
        found = distance(scale)
        if abs(found - wanted) <= _CLOSE * wanted:
            break
        low, high = (scale, high) if found < wanted else (low, scale)
        guess = scale * wanted / found if found > 0 else 2 * scale
        # the proportion is trusted as long as it stays between scales known to be too small or big
        inside = low < guess < high
        scale = guess if inside else (low + high) / 2 if high < float("inf") else 2 * scale
    return scale


@dataclasses.dataclass(frozen=True)
class EqualNoveltyStart:
    """Good members with noise that brings their median distance from all members to ``distance``.

    shortlist: members that each is matched with, see `aligned_nearest`.
    """

    distance: float
    shortlist: int | None = 8

    needs: ClassVar[frozenset[str]] = frozenset({"canonicalizer", "good", "members", "spec"})

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """The same members and noise at every scale that is tried."""
        seed = int(torch.randint(2**62, (), generator=generator))
        good, spec, members, align = start.good, start.spec, start.members, start.canonicalizer
        if good is None or spec is None or members is None or align is None:
            raise ValueError("EqualNoveltyStart needs good, but Start has none")
        real = align(members.params, member=members.member)

        def noisy(scale: float) -> Params:
            rng = torch.Generator().manual_seed(seed)
            return noise_baseline(good, n, scale=scale, generator=rng)

        def distance(scale: float) -> float:
            drawn = align(noisy(scale))
            near = aligned_nearest(spec, drawn, real, shortlist=self.shortlist)
            return float(near.distance.median())

        return noisy(scale_of_novelty(distance, self.distance))
