"""Mode connectivity: losses along a path between two networks, and the barrier on it.

    barrier = max_t L(lerp(a, b, t)) - [(1 - t) L(a) + t L(b)]

Frankle et al. (2020), arXiv 1912.05671; Entezari et al. (2022), arXiv 2110.06296, for the linear
baseline; Ainsworth et al. (2023), arXiv 2209.04836, subtract the mean of the ends instead:
`mean_barrier`. The two conventions agree when the ends have equal loss. The grid contains both
ends, so the linear barrier is never negative. The path is the straight line unless another is
given, such as a `Bezier` curve. Nothing is aligned here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import overload

import torch
from torch import Tensor

from wsl.connectivity.interpolate import lerp
from wsl.params import Params

Evaluate = Callable[[Params], tuple[float | Tensor, float | Tensor]]
"""Loss and accuracy of a network."""
WeightPath = Callable[[float], Params]
"""Weights at each t from 0 to 1."""
Prepare = Callable[[Params], Params]
"""What is done to a network before it is evaluated."""


@dataclasses.dataclass(frozen=True, eq=False)
class PathLosses:
    """Loss and accuracy at the points ``t`` of a path from 0 to 1.

    Three float64 tensors of one length, on the CPU.
    """

    t: Tensor
    loss: Tensor
    accuracy: Tensor


@overload
def path_losses(
    evaluate: Evaluate, a: WeightPath, *, points: int = ..., prepare: Prepare | None = ...
) -> PathLosses: ...


@overload
def path_losses(
    evaluate: Evaluate,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    points: int = ...,
    prepare: Prepare | None = ...,
) -> PathLosses: ...


def path_losses(
    evaluate: Evaluate,
    a: Mapping[str, Tensor] | WeightPath,
    b: Mapping[str, Tensor] | None = None,
    *,
    points: int = 25,
    prepare: Prepare | None = None,
) -> PathLosses:
    """Evaluate ``points`` networks equally spaced from ``a`` to ``b``, both included.

    With a path, a function of t in [0, 1] that returns weights, in the place of ``a`` there is no
    ``b``. ``evaluate`` maps weights to (loss, accuracy); ``prepare`` is applied to every network
    first, the ends as well, for example ``lambda theta: reset_batch_norm(model, theta, batches)``.
    """
    if points < 2:
        raise ValueError(f"path_losses: points is {points}, but a path needs at least its 2 ends")
    path = _line(a, b)
    grid = torch.linspace(0, 1, points, dtype=torch.float64)
    rows = []
    with torch.no_grad():
        for t in grid.tolist():
            theta = path(t)
            loss, accuracy = evaluate(prepare(theta) if prepare else theta)
            rows.append((float(loss), float(accuracy)))
    loss, accuracy = torch.tensor(rows, dtype=torch.float64).T
    return PathLosses(grid, loss, accuracy)


def _line(a: Mapping[str, Tensor] | WeightPath, b: Mapping[str, Tensor] | None) -> WeightPath:
    """The path that is meant: the straight line between two networks, or ``a`` itself."""
    if b is None:
        if not callable(a):
            raise ValueError("path_losses: b is missing; one network alone is no path")
        return a
    if callable(a):
        raise ValueError("path_losses: a is a path, which has its own end; leave out b")
    return lambda t: lerp(a, b, t)


def loss_barrier(path: PathLosses) -> float:
    """Largest excess of the loss over the line between the losses of the ends.

    0 for a path that lies on or below that line.

    >>> import torch
    >>> t = torch.tensor([0.0, 0.5, 1.0])
    >>> loss_barrier(PathLosses(t, loss=torch.tensor([0.0, 3.0, 2.0]), accuracy=t))
    2.0
    """
    return float((path.loss - torch.lerp(path.loss[0], path.loss[-1], path.t)).max())


def mean_barrier(path: PathLosses) -> float:
    """Largest loss on the path minus the mean of the two ends, the convention of Git Re-Basin.

    Unequal ends raise it.

    >>> import torch
    >>> t = torch.tensor([0.0, 0.5, 1.0])
    >>> mean_barrier(PathLosses(t, loss=torch.tensor([0.0, 3.0, 2.0]), accuracy=t))
    2.0
    """
    return float(path.loss.max() - (path.loss[0] + path.loss[-1]) / 2)


def accuracy_barrier(path: PathLosses) -> float:
    """Largest drop of the accuracy below the line between the accuracies of the ends."""
    return float((torch.lerp(path.accuracy[0], path.accuracy[-1], path.t) - path.accuracy).max())
