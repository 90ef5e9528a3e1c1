"""A curve of low loss between two networks: a quadratic Bezier curve whose bend is trained.

    phi(t) = (1 - t)^2 a + 2 t (1 - t) bend + t^2 b,      bend = argmin E_{t ~ U(0, 1)} L(phi(t))

Garipov et al. (2018), section 3, arXiv 1802.10026. The bend starts at the midpoint, where the curve
is the straight line; the ends never move. Batch-norm statistics are not trained: along the curve
they are those of the straight line, so measure them anew, see `reset_batch_norm`. It says what the
loss is on the curve that was found, not that there is none better.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.connectivity.interpolate import lerp
from wsl.connectivity.learned import is_real
from wsl.params import Params, check_alike

BatchLoss = Callable[[Params, Any], Tensor]
"""Loss of a network on one batch, a scalar that can be differentiated by the weights."""

_GOLDEN = (5**0.5 - 1) / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Bezier:
    """A quadratic Bezier curve: ``curve(t)`` are the weights at ``t``, from a (0) to b (1).

    ``losses`` are those of the training steps, float64 (steps,), each at a point of its own.
    """

    a: Mapping[str, Tensor]
    bend: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    losses: Tensor

    def __call__(self, t: float) -> Params:
        """Weights at ``t``; the ends are ``a`` and ``b`` bit for bit."""
        return lerp(lerp(self.a, self.bend, t), lerp(self.bend, self.b, t), t)


def bezier(
    loss: BatchLoss,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    batches: Sequence[Any],
    steps: int = 1000,
    learning_rate: float = 1e-3,
    trained: Collection[str] | None = None,
) -> Bezier:
    """Train the bend of a curve from ``a`` to ``b`` by Adam, one batch and one point a step.

    ``batches`` are gone through again and again in their order; what each of them is, only ``loss``
    needs to know. ``trained`` names the tensors whose bend moves, by default all real ones but
    batch-norm statistics. The points fill (0, 1) evenly without chance: same inputs, same curve.
    Raises ValueError without a batch, and when the loss on the curve is not finite.
    """
    check_alike(a, b)
    if not batches:
        raise ValueError("bezier: no batches were given, so there is nothing to train on")
    middle = lerp(a, b, 0.5)
    names = [name for name in middle if _is_trained(name, middle[name], trained)]
    leaves = {name: middle[name].clone().requires_grad_() for name in names}

    def at(step: int, batch: Any) -> Tensor:
        curve = Bezier(a, middle | leaves, b, torch.empty(0))
        return loss(curve(_point(step)), batch)

    order = zip(range(steps), itertools.cycle(batches), strict=False)
    losses = _descended(at, leaves.values(), order, learning_rate=learning_rate)
    bend = middle | {name: leaf.detach() for name, leaf in leaves.items()}
    return Bezier(a, bend, b, torch.tensor(losses, dtype=torch.float64))


def _descended(
    at: Callable[[int, Any], Tensor],
    leaves: Iterable[Tensor],
    order: Iterable[tuple[int, Any]],
    *,
    learning_rate: float,
) -> list[float]:
    """Move ``leaves`` by Adam, a step for each step number and batch of ``order``; its losses."""
    optimizer = torch.optim.Adam(leaves, lr=learning_rate)
    losses = []
    for step, batch in order:
        found = at(step, batch)
        losses.append(_finite(found, step, learning_rate))
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    return losses


def _is_trained(name: str, tensor: Tensor, chosen: Collection[str] | None) -> bool:
    return is_real(name, tensor) if chosen is None else name in chosen


def _finite(loss: Tensor, step: int, learning_rate: float) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(
            f"bezier: the loss of step {step} is {value:g}; lower learning_rate, now "
            f"{learning_rate:g}"
        )
    return value


def _point(step: int) -> float:
    """Multiples of the golden ratio, without their integers: they fill (0, 1) evenly, and stay so
    for every batch when batches come again and again.
    """
    return (step + 1) * _GOLDEN % 1.0
