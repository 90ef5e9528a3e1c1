"""Intrinsic dimension of an objective: how many random directions are enough to solve it.

    theta = theta_0 + P d,    P (D, k) random with columns of length one,    train d from 0
    d_int = the smallest k whose score is at least ``share`` of the baseline

Li, Farkhoor, Liu, Yosinski (2018), "Measuring the intrinsic dimension of objective landscapes",
arXiv 1804.08838; share = .9 there. The directions go through all learned tensors as one vector.
Their toy objective (1,000 numbers in ten groups, each of which has to sum to its own number) has
dimension ten, and so it is here.

What it gives is an upper bound by one optimiser at one budget: a longer training or a better
optimiser may need fewer. P is dense, D x k numbers: for small networks, as in the paper's main
experiments (they also have sparse and Fastfood maps, which are not here).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params, is_learned, ravel, shapes, unravel

Loss = Callable[[Params], Tensor]
"""A loss of the weights that can be differentiated; it may draw a new batch at every call."""


@dataclasses.dataclass(frozen=True)
class IntrinsicDimension:
    """``scores`` of networks trained in so many random ``dimensions``, beside the ``baseline``.

    dimension: the smallest that is enough; None if none was.
    """

    dimensions: tuple[int, ...]
    scores: tuple[float, ...]
    baseline: float
    share: float

    @property
    def dimension(self) -> int | None:
        """The smallest of the dimensions that reached the share of the baseline."""
        pairs = sorted(zip(self.dimensions, self.scores, strict=True))
        return next((k for k, score in pairs if score >= self.share * self.baseline), None)


@dataclasses.dataclass(frozen=True)
class SubspaceTraining:
    """Adam on the coordinates of a random subspace; ``steps`` of one call of the loss each."""

    steps: int = 500
    learning_rate: float = 0.05
    seed: int = 0

    def train(self, loss: Loss, start: Mapping[str, Tensor], dimension: int) -> Params:
        """The weights after training within ``dimension`` random directions from ``start``.

        Raises ValueError for a dimension below one, or above the number of learned weights.
        """
        learned = {name: t.detach() for name, t in start.items() if is_learned(name, t)}
        vector, own = ravel(learned), shapes(learned)
        if not 1 <= dimension <= len(vector):
            raise ValueError(
                f"a subspace of {dimension} directions: from 1 to {len(vector)}, the number of "
                "learned weights, are possible"
            )
        directions = self._directions(len(vector), dimension).to(vector)
        coordinates = torch.zeros(dimension, dtype=vector.dtype, device=vector.device)
        coordinates.requires_grad_()
        optimizer = torch.optim.Adam([coordinates], lr=self.learning_rate)
        for _ in range(self.steps):
            optimizer.zero_grad()
            loss({**start, **unravel(vector + directions @ coordinates, own)}).backward()
            optimizer.step()
        with torch.no_grad():
            return {**start, **unravel(vector + directions @ coordinates, own)}

    def _directions(self, entries: int, dimension: int) -> Tensor:
        """Random columns of length one, the same on every device."""
        rng = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(entries, dimension, generator=rng)
        return drawn / drawn.norm(dim=0)


def intrinsic_dimension(
    loss: Loss,
    start: Mapping[str, Tensor],
    score: Callable[[Params], float],
    *,
    dimensions: Sequence[int],
    baseline: float,
    training: SubspaceTraining | None = None,
    share: float = 0.9,
) -> IntrinsicDimension:
    """Train in random subspaces of each of ``dimensions`` and score the results.

    score: higher is better, such as an accuracy. baseline: the score of training all weights.
    Raises ValueError without dimensions.
    """
    if not dimensions:
        raise ValueError("intrinsic_dimension: no dimensions to try were given")
    how = training or SubspaceTraining()
    scores = tuple(float(score(how.train(loss, start, k))) for k in dimensions)
    return IntrinsicDimension(tuple(dimensions), scores, float(baseline), share)
