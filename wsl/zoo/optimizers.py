"""Optimisers for N members at once: torch's formulas with a learning rate and a weight decay per member.

    SGD:    g <- g + w theta;   b <- m b + g;   theta <- theta - l b
    AdamW:  theta <- (1 - l w) theta;   m <- b1 m + (1-b1) g;   v <- b2 v + (1-b2) g^2
            theta <- theta - l (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)

l and w have shape (N,), everything else (N, ...). Loshchilov and Hutter (2019), arXiv 1711.05101. Updates are in place and
per member: no row ever reads another. Equal to `torch.optim.SGD` and `torch.optim.AdamW` on each member (a test).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.zoo.describe import build

State = tuple[list[Tensor], ...]


class Optimizer(abc.ABC):
    """Hyper-parameters that all members share; the state lives with the caller."""

    slots: int
    """Tensors of state per weight tensor."""

    def initial_state(self, weights: Sequence[Tensor]) -> State:
        """Zeros, one list per slot."""
        return tuple([torch.zeros_like(w) for w in weights] for _ in range(self.slots))

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], *, state: State, count: int, lr: Tensor,
             weight_decay: Tensor) -> None:  # fmt: skip
        """Move ``weights`` (N, ...) in place; ``count`` is 1 at the first step."""
        for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
            shape = (-1, *[1] * (weight.dim() - 1))
            rate, decay = lr.to(weight).view(shape), weight_decay.to(weight).view(shape)
            self._update(weight, grad, state=[slot[i] for slot in state], count=count, lr=rate, decay=decay)

    @abc.abstractmethod
    def _update(self, weight: Tensor, grad: Tensor, *, state: list[Tensor], count: int, lr: Tensor, decay: Tensor) -> None: ...


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with heavy-ball momentum; weight decay is added to the gradient, as in `torch.optim.SGD`."""

    momentum: float = 0.9
    slots = 1

    def _update(self, weight: Tensor, grad: Tensor, *, state: list[Tensor], count: int, lr: Tensor, decay: Tensor) -> None:
        del count  # heavy-ball momentum has no start-up correction
        (velocity,) = state
        velocity.mul_(self.momentum).add_(grad).addcmul_(weight, decay)
        weight.addcmul_(velocity, lr, value=-1)


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, as in `torch.optim.AdamW`; with zero decay it is Adam."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    slots = 2

    def _update(self, weight: Tensor, grad: Tensor, *, state: list[Tensor], count: int, lr: Tensor, decay: Tensor) -> None:
        first, second = state
        b1, b2 = self.betas
        weight.mul_(1 - lr * decay)
        first.lerp_(grad, 1 - b1)
        second.mul_(b2).addcmul_(grad, grad, value=1 - b2)
        scale = second.sqrt().div_((1 - b2**count) ** 0.5).add_(self.eps)
        weight.addcmul_(first.div(scale), lr, value=-1 / (1 - b1**count))


def build_optimizer(description: Mapping[str, Any]) -> Optimizer:
    """`SGD` or `AdamW` from its description; raises `ZooError` for any other target."""
    return build(description, allowed={"wsl.zoo.SGD": SGD, "wsl.zoo.AdamW": AdamW}, what="optimizer")
