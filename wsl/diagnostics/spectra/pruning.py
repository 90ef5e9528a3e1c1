"""Regimes of pruning: is a pruned network that was trained on connected to its twin, and alike it?

    barrier   max_t L((1-t) a + t b) - ((1-t) L(a) + t L(b))       a, b: trained on from one mask
    CKA       |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)                  X, Y: centred outputs of a and b
    I         barrier above the tolerance: not connected           raise the temperature of training
    II-A      connected, CKA below ``alike``                       lower it
    II-B      connected, CKA at least ``alike``                    nothing to gain

Temperature is what makes the training of the dense network noisy (learning rate, small batches, few
epochs), load the share of weights that are left. Zhou, Yang, Chang, Mahoney (2023), "A three-regime
model of network pruning", arXiv 2305.18383, who find that more temperature helps in regime I and
harms in II-A. Their edges are read off heat maps; ``tolerance`` and ``alike`` are ours. They
measure errors along the line; any loss does here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wsl.params import Params, check_alike, is_learned

PRUNING_REGIMES = ("I", "II-A", "II-B")


@dataclasses.dataclass(frozen=True)
class PruningRegime:
    """The ``regime`` of one pair of networks, one of `PRUNING_REGIMES`, with its two measures."""

    regime: str
    barrier: float
    cka: float


@torch.no_grad()
def magnitude_pruned(params: Mapping[str, Tensor], density: float) -> tuple[Params, Params]:
    """The weights with the smallest entries of all matrices together set to zero, and the masks.

    density: the share of entries of matrices and convolutions that stays; vectors stay whole.
    Raises ValueError unless 0 < density <= 1.
    """
    if not 0 < density <= 1:
        raise ValueError(f"magnitude_pruned: density is {density}; above 0 and at most 1")
    chosen = [name for name, t in params.items() if is_learned(name, t) and t.dim() > 1]
    every = torch.cat([params[name].abs().flatten() for name in chosen])
    cut = len(every) - max(1, round(density * len(every)))
    edge = every.kthvalue(cut).values if cut else every.new_tensor(-1.0)
    masks = {name: (params[name].abs() > edge).to(params[name]) for name in chosen}
    return {n: t * masks[n] if n in masks else t.clone() for n, t in params.items()}, masks


def pruning_regime(
    loss: Callable[[Params], float],
    outputs: Callable[[Params], Tensor],
    pair: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    *,
    points: int = 5,
    tolerance: float = 0.05,
    alike: float = 0.9,
) -> PruningRegime:
    """The regime of two networks that were pruned alike and trained on apart.

    outputs: what a network says of some inputs, (inputs, outputs).
    Raises ValueError for networks that differ and for fewer than three points.
    """
    if points < 3:
        raise ValueError(f"pruning_regime: {points} points on the line; at least 3 are needed")
    barrier = _barrier(loss, *pair, points=points)
    cka = linear_cka(outputs(dict(pair[0])), outputs(dict(pair[1])))
    connected = PRUNING_REGIMES[2] if cka >= alike else PRUNING_REGIMES[1]
    return PruningRegime(PRUNING_REGIMES[0] if barrier > tolerance else connected, barrier, cka)


@torch.no_grad()
def linear_cka(one: Tensor, other: Tensor) -> float:
    """Centred kernel alignment of two sets of outputs (inputs, ...) of the same inputs; 0 to 1.

    Kornblith, Norouzi, Lee, Hinton (2019), arXiv 1905.00414. NaN where outputs do not vary.

    >>> import torch
    >>> outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
    >>> round(linear_cka(outputs, 3 * outputs.flip(1)), 6)
    1.0
    """
    x, y = (each.double().flatten(1) for each in (one, other))
    if len(x) != len(y):
        raise ValueError(f"linear_cka: outputs of {len(x)} and of {len(y)} inputs")
    x, y = x - x.mean(0), y - y.mean(0)
    size = float((x.mT @ x).norm() * (y.mT @ y).norm())
    return float((y.mT @ x).square().sum()) / size if size else float("nan")


def _barrier(
    loss: Callable[[Params], float],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    points: int,
) -> float:
    """The largest excess over the line between the losses of the ends."""
    check_alike(a, b)
    at = [i / (points - 1) for i in range(points)]
    losses = [float(loss(_between(a, b, t))) for t in at]
    ends = losses[0], losses[-1]
    return max(each - ((1 - t) * ends[0] + t * ends[1]) for t, each in zip(at, losses, strict=True))


def _between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float) -> Params:
    return {n: torch.lerp(x, b[n], t) if x.is_floating_point() else x for n, x in a.items()}
