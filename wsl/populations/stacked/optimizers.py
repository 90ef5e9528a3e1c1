"""Optimisers for N members at once: torch's formulas with hyper-parameters of each member's own.

    SGD:      g <- g + w theta
              b <- m b + g
              theta <- theta - l b                      Nesterov: theta <- theta - l (g + m b)
    Adam:     g <- g + w theta
              m <- b1 m + (1 - b1) g
              v <- b2 v + (1 - b2) g^2
              theta <- theta - l (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    AdamW:    theta <- (1 - l w) theta, then Adam's step without w in the gradient

Weights are (N, P), one row per member; l, w and, where given, m, b1, b2 are (N, 1). Kingma and Ba
(2015), arXiv 1412.6980; Loshchilov and Hutter (2019), arXiv 1711.05101. No row ever reads another.
Equal to `torch.optim` on each member (a test).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wsl.populations.describe import build

State = tuple[Tensor, ...]
Hyper = Mapping[str, Tensor]
"""``lr``, ``weight_decay``, optionally ``momentum``, ``beta1``, ``beta2``: (N, 1), as weights."""


class Optimizer(abc.ABC):
    """What all members share; the state lives with the caller."""

    slots: int
    """Tensors of state, each of the weights' shape."""

    def initial_state(self, weights: Tensor) -> State:
        """Zeros."""
        return tuple(torch.zeros_like(weights) for _ in range(self.slots))

    @abc.abstractmethod
    def update(
        self, weights: Tensor, grads: Tensor, *, state: State, count: Tensor, hyper: Hyper
    ) -> tuple[Tensor, State]:
        """New weights (N, P) and state; nothing is changed in place.

        ``count``, 0-d float64, is 1 at the first step.
        """


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum, heavy-ball or Nesterov's.

    Weight decay is added to the gradient.
    """

    momentum: float = 0.9
    nesterov: bool = False
    slots = 1

    def update(
        self, weights: Tensor, grads: Tensor, *, state: State, count: Tensor, hyper: Hyper
    ) -> tuple[Tensor, State]:
        """As `torch.optim.SGD`."""
        del count  # momentum has no start-up correction
        momentum = hyper.get("momentum", self.momentum)
        grads = torch.addcmul(grads, hyper["weight_decay"], weights)
        velocity = momentum * state[0] + grads
        step = grads + momentum * velocity if self.nesterov else velocity
        return torch.addcmul(weights, hyper["lr"], step, value=-1), (velocity,)


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam; weight decay is added to the gradient, as in `torch.optim.Adam`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    slots = 2

    def update(
        self, weights: Tensor, grads: Tensor, *, state: State, count: Tensor, hyper: Hyper
    ) -> tuple[Tensor, State]:
        """As `torch.optim.Adam`."""
        grads = torch.addcmul(grads, hyper["weight_decay"], weights)
        change, state = self._change(grads, state=state, count=count, hyper=hyper)
        return weights - change, state

    def _change(
        self, grads: Tensor, *, state: State, count: Tensor, hyper: Hyper
    ) -> tuple[Tensor, State]:
        """What is subtracted from the weights, and the new moments."""
        b1, b2 = hyper.get("beta1", self.betas[0]), hyper.get("beta2", self.betas[1])
        first = torch.lerp(state[0], grads, 1 - b1)
        second = (state[1] * b2).add_(grads.square().mul_(1 - b2))
        rate = hyper["lr"] / (1 - _power(b1, count)).to(grads)
        root = second.sqrt().div_((1 - _power(b2, count)).sqrt().to(grads)).add_(self.eps)
        return torch.div(first, root).mul_(rate), (first, second)


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as in `torch.optim.AdamW`; with zero decay it is Adam."""

    def update(
        self, weights: Tensor, grads: Tensor, *, state: State, count: Tensor, hyper: Hyper
    ) -> tuple[Tensor, State]:
        """As `torch.optim.AdamW`."""
        change, state = self._change(grads, state=state, count=count, hyper=hyper)
        return weights * (1 - hyper["lr"] * hyper["weight_decay"]) - change, state


def _power(base: float | Tensor, count: Tensor) -> Tensor:
    """In float64: 1 - b2^t cancels at the first steps."""
    return (base.double() if isinstance(base, Tensor) else base) ** count


OPTIMIZERS = {"wsl.zoo.SGD": SGD, "wsl.zoo.Adam": Adam, "wsl.zoo.AdamW": AdamW}


def build_optimizer(description: Mapping[str, Any]) -> Optimizer:
    """`SGD`, `Adam` or `AdamW` from its description; raises `ZooError` for any other target."""
    return build(description, allowed=OPTIMIZERS, what="optimizer")
