"""Ways to starting weights: of the network itself, of trained members, of a generator.

Each is asked through `starting_weights`, which checks what it needs. Whether a start pays is an
empirical question: `judge` puts them side by side at equal training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.generative.models import (
    gaussian_baseline,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
)
from wsl.generative.problem import Coded, Start
from wsl.generative.starts.asked import given
from wsl.generative.starts.layers import own_weights
from wsl.params import Params


@torch.no_grad()
def round_trip(generator: Coded, params: Mapping[str, Tensor]) -> Params:
    """Networks after encoding and decoding: a ceiling for what the generator can draw.

    Held-out members tell the truth.
    """
    return generator.decode(generator.encode(params))


@dataclasses.dataclass(frozen=True)
class GeneratedStart:
    """Drawn from the fitted generator at the condition asked for."""

    needs: ClassVar[frozenset[str]] = frozenset({"fitted"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """As many samples, none chosen."""
        return given(start.fitted).sample(n, condition=start.asked, generator=generator)


@dataclasses.dataclass(frozen=True)
class DefaultStart:
    """The network's own initialisation, each under a seed of its own."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Seeds are those of the start, so that they pair with the order of its batches."""
        return own_weights(start, n)


@dataclasses.dataclass(frozen=True)
class RetrievalStart:
    """Good members as they are."""

    needs: ClassVar[frozenset[str]] = frozenset({"good"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Chosen at random, repeats allowed."""
        return retrieval_baseline(given(start.good), n, generator=generator)


@dataclasses.dataclass(frozen=True)
class NoiseStart:
    """Good members with Gaussian noise of ``scale`` times each tensor's own deviation."""

    scale: float = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"good"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Variances of batch norm stay non-negative."""
        return noise_baseline(given(start.good), n, scale=self.scale, generator=generator)


@dataclasses.dataclass(frozen=True)
class GaussianStart:
    """Every weight on its own from a normal fitted to the aligned good members."""

    needs: ClassVar[frozenset[str]] = frozenset({"aligned"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Variances of batch norm stay non-negative."""
        return gaussian_baseline(given(start.aligned), n, generator=generator)


@dataclasses.dataclass(frozen=True)
class MeanStart:
    """Averages of ``members`` random aligned good members each."""

    members: int = 16

    needs: ClassVar[frozenset[str]] = frozenset({"aligned"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Of fewer members where there are fewer."""
        good = given(start.aligned)
        return mean_baseline(good, n, members=self.members, generator=generator)


@dataclasses.dataclass(frozen=True)
class RoundTripStart:
    """The best held-out members through the generator's code: what the code alone costs."""

    needs: ClassVar[frozenset[str]] = frozenset({"coded", "held_out"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """The first n, or as many as there are."""
        best = {name: tensor[:n] for name, tensor in given(start.held_out).items()}
        return round_trip(given(start.coded), best)
