"""Straight-through estimation: the permutation that makes the loss half way small, by gradients.

    pi = argmax_pi <theta', pi.theta_b>         (weight matching, from where pi stood before)
    theta' <- theta' - eta dL/dtheta'   at   (1-t) theta_a + t (pi.theta_b + theta' - stop(theta'))

Ainsworth et al. (2023), section 3.3, arXiv 2209.04836, with t = 1/2; theta' starts at theta_a. With
``random`` t is uniform in [0, 1] in each step, as STE-MM draws it (Ito et al., ICML 2025).

Each step continues the matching of the step before: the ascent starts from the last permutation, in
which near convergence every row's best entry is its own and no assignment has to be solved.

Guarantees: the loss half way, over all batches, is never above that of weight matching, since that
is where it starts and the best permutation seen after an epoch is kept. Not guaranteed: that a
lower loss half way means networks that are alike; Ito et al. (2402.04051) find that it does not,
and that what is matched to a third network this way does not fit together.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.matching.result import Match
from wsl.matching.solvers.midpoint import between
from wsl.matching.solvers.weight import WeightMatching, aligned_tensors
from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec

Loss = Callable[[Params, Any], Tensor]
"""The mean loss of a network, by its weights, on one batch."""


@dataclasses.dataclass(frozen=True)
class STEMatching:
    """Weight matching against a target that follows the gradient.

    loss: mean loss of weights on one of the batches, differentiable in the weights.
    batches: what ``loss`` takes as its second argument, gone through in order in each epoch.
    epochs, learning_rate, momentum: of SGD on the target.
    random: whether points are drawn anywhere between the ends, and not half way; by ``seed``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    loss: Loss
    batches: Sequence[Any]
    epochs: int = 10
    learning_rate: float = 1e-2
    momentum: float = 0.9
    random: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.batches) or self.epochs < 0:
            raise ValueError(
                f"STEMatching: got {len(self.batches)} batches and {self.epochs} epochs; at least "
                "one batch, and no fewer than 0 epochs, are needed"
            )

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The permutation of smallest loss half way; see `wsl.match`.

        The objective is minus that loss; the trace has the best so far, from the start on.
        """
        start = time.perf_counter()
        first = WeightMatching().solve(spec, a, b).permutation
        assert isinstance(first, Permutation)
        walk = _Walk(spec, a, first(b), speed=(self.learning_rate, self.momentum))
        best, losses, before = walk.permutation, [self._middle(a, walk.b)], walk.permutation
        shares = self._shares()
        for _ in range(self.epochs):
            before = walk.permutation
            for batch in self.batches:
                walk.step(self.loss, batch, next(shares))
            now = self._middle(a, walk.b)
            best = walk.permutation if now < losses[-1] else best
            losses.append(min(now, losses[-1]))
        found = Match(best @ first, -losses[-1], self.epochs, walk.permutation == before)
        seconds = {"total": time.perf_counter() - start}
        trace = -torch.tensor(losses, dtype=torch.float64)
        return dataclasses.replace(found, trace=trace, seconds=seconds)

    def _shares(self) -> Iterator[float]:
        """How far from a each step looks."""
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            yield float(torch.rand((), generator=rng)) if self.random else 0.5

    def _middle(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
        """The mean loss half way, over all batches."""
        middle = between(a, b, 0.5)
        total = sum(float(self.loss(middle, batch)) for batch in self.batches)
        return total / len(self.batches)


class _Walk:
    """The target, the other network as moved so far, and the permutation that moved it."""

    def __init__(
        self,
        spec: PermutationSpec,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        *,
        speed: tuple[float, float],
    ) -> None:
        self.spec, self.a, self.b = spec, a, dict(b)
        self.target = {name: a[name].clone() for name in aligned_tensors(a)}
        self.permutation = Permutation.identity(spec)
        rate, momentum = speed
        self.optimizer = torch.optim.SGD(self.target.values(), lr=rate, momentum=momentum)

    def step(self, loss: Loss, batch: Any, t: float) -> None:
        """Move the target against the slope at the share ``t`` of the way, and b to the target."""
        point = between(self.a, self.b, t)
        leaves = [point[name].requires_grad_() for name in self.target]
        with torch.enable_grad():
            slopes = torch.autograd.grad(loss(point, batch), leaves, allow_unused=True)
        for tensor, slope in zip(self.target.values(), slopes, strict=True):
            tensor.grad = None if slope is None else t * slope
        self.optimizer.step()
        self._match()

    def _match(self) -> None:
        target = {name: self.target.get(name, tensor) for name, tensor in self.a.items()}
        found = WeightMatching(anchored=False, seed=None).solve(self.spec, target, self.b)
        assert isinstance(found.permutation, Permutation)
        self.permutation = found.permutation @ self.permutation
        self.b = found(self.b)
