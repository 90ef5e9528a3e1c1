"""What a second-order expansion of the loss at both ends says of the barrier half way.

    L(a + d/2) = L(a) + g_a.d/2 + d.H_a d/8 + ..,     d = b - a,      and from b the other way
    barrier   ~= (g_a - g_b).d / 4 + d.(H_a + H_b) d / 16

the mean of both expansions minus the mean of both losses. Ito, Yamada, Kumagai (2025), section 3,
arXiv 2402.04051: it fails for independently trained networks, matched or not, since they are far
apart; `TaylorBarrier.measured` stands beside it. Exact for a quadratic loss. One product with the
Hessian at each end, by forward over backward differentiation: no Hessian is built.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wsl.connectivity.interpolate import lerp
from wsl.connectivity.learned import learned
from wsl.params import Params, check_alike

Loss = Callable[[Params], Tensor]
"""Loss of a network, a scalar that can be differentiated twice by the weights."""


@dataclasses.dataclass(frozen=True)
class TaylorBarrier:
    """The estimate half way, its part from gradients and from curvature, and the true value."""

    gradient: float
    curvature: float
    measured: float

    @property
    def estimate(self) -> float:
        """What the expansion says the barrier is."""
        return self.gradient + self.curvature


def taylor_barrier(loss: Loss, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> TaylorBarrier:
    """The expansion of ``loss`` at both ends of the line from ``a`` to ``b``.

    Batch-norm statistics are those of the ends, and of the midpoint where it is measured.
    """
    check_alike(a, b)
    direction = {name: b[name].to(a[name]) - a[name] for name in learned(a)}
    (value_a, slope_a, bend_a), (value_b, slope_b, bend_b) = (
        _expanded(loss, theta, direction) for theta in (a, b)
    )
    with torch.no_grad():
        middle = float(loss(lerp(a, b, 0.5)))
    measured = middle - (value_a + value_b) / 2
    return TaylorBarrier((slope_a - slope_b) / 4, (bend_a + bend_b) / 16, measured)


def _expanded(
    loss: Loss, theta: Mapping[str, Tensor], direction: Params
) -> tuple[float, float, float]:
    """The loss, its slope along ``direction``, and its second derivative along it."""
    moving = {name: theta[name].detach() for name in direction}

    def along(part: Params) -> Tensor:
        return loss({**theta, **part})

    with warnings.catch_warnings():
        # what torch says to itself when it first loads its rules of forward differentiation
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        slopes = torch.func.jvp(torch.func.grad(along), (moving,), (direction,))
    slope, bend = (_product(each, direction) for each in slopes[:2])
    with torch.no_grad():
        return float(loss(dict(theta))), slope, bend


def _product(a: Params, b: Params) -> float:
    """The inner product over all tensors of ``b``."""
    return float(sum((a[name].detach() * b[name]).double().sum() for name in b))
