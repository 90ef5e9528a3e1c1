"""Ways to starting weights: of the network itself, of trained members, of a generator.

Each is asked through `starting_weights`, which checks what it needs. Whether a start pays is an
empirical question: `judge` puts them side by side at equal training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from wsl.generative.models import (
    gaussian_baseline,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
)
from wsl.generative.problem import Coded, Initializer, Start, check_needs
from wsl.params import Params
from wsl.populations import initial_population

Given = TypeVar("Given")

SEEDS_APART = 1_000_003
"""Between the seeds of two runs, so that their networks do not share any."""


@torch.no_grad()
def round_trip(generator: Coded, params: Mapping[str, Tensor]) -> Params:
    """Networks after encoding and decoding: a ceiling for what the generator can draw.

    Held-out members tell the truth.
    """
    return generator.decode(generator.encode(params))


def starting_weights(
    method: Initializer, start: Start, n: int, *, generator: torch.Generator
) -> Params:
    """Weights (n, ...) by ``method``; raises ValueError naming what it needs and does not have."""
    check_needs(method.needs, start, what=type(method).__name__)
    return method.draw(start, n, generator=generator)


@dataclasses.dataclass(frozen=True)
class GeneratedStart:
    """Drawn from the fitted generator at the condition asked for."""

    needs: ClassVar[frozenset[str]] = frozenset({"fitted"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """As many samples, none chosen."""
        fitted = _given(start.fitted)
        return fitted.sample(n, condition=start.asked, generator=generator)


@dataclasses.dataclass(frozen=True)
class DefaultStart:
    """The network's own initialisation, each under a seed of its own."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Seeds are those of the start, so that they pair with the order of its batches."""
        return initial_population(start.fresh, [start.seed * SEEDS_APART + i for i in range(n)])


@dataclasses.dataclass(frozen=True)
class RetrievalStart:
    """Good members as they are."""

    needs: ClassVar[frozenset[str]] = frozenset({"good"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Chosen at random, repeats allowed."""
        return retrieval_baseline(_given(start.good), n, generator=generator)


@dataclasses.dataclass(frozen=True)
class NoiseStart:
    """Good members with Gaussian noise of ``scale`` times each tensor's own deviation."""

    scale: float = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"good"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Variances of batch norm stay non-negative."""
        return noise_baseline(_given(start.good), n, scale=self.scale, generator=generator)


@dataclasses.dataclass(frozen=True)
class GaussianStart:
    """Every weight on its own from a normal fitted to the aligned good members."""

    needs: ClassVar[frozenset[str]] = frozenset({"aligned"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Variances of batch norm stay non-negative."""
        return gaussian_baseline(_given(start.aligned), n, generator=generator)


@dataclasses.dataclass(frozen=True)
class MeanStart:
    """Averages of ``members`` random aligned good members each."""

    members: int = 16

    needs: ClassVar[frozenset[str]] = frozenset({"aligned"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Of fewer members where there are fewer."""
        good = _given(start.aligned)
        return mean_baseline(good, n, members=self.members, generator=generator)


@dataclasses.dataclass(frozen=True)
class RoundTripStart:
    """The best held-out members through the generator's code: what the code alone costs."""

    needs: ClassVar[frozenset[str]] = frozenset({"coded", "held_out"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """The first n, or as many as there are."""
        best = {name: tensor[:n] for name, tensor in _given(start.held_out).items()}
        return round_trip(_given(start.coded), best)


def _given(value: Given | None) -> Given:
    if value is None:
        raise ValueError("ask an initialiser through starting_weights, which checks its needs")
    return value
