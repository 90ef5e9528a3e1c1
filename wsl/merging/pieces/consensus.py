"""How several task vectors become one: sums, or means over the members that agree on a sign.

    gamma = sgn sum_t tau_t                  the elected sign of an entry
    tau   = sum_t [sgn tau_t = gamma] w_t tau_t / sum_t [sgn tau_t = gamma] w_t

Yadav et al. (2023), TIES, arXiv 2306.01708, section 3: the mean is over the members that agree, and
zeros do not count. An entry where all members are zero, or where they cancel, is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from wsl.merging.pieces.tensors import summed, weighted

Consensus = Literal["mean", "sum"]


def elected_sign(tau: Tensor) -> Tensor:
    """The sign of the sum of task vectors (T, *shape), (*shape)."""
    return summed(tau).sign()


def agreed(tau: Tensor, signs: Tensor) -> Tensor:
    """Where the members of (T, *shape) have the elected sign, which is not zero."""
    return tau * signs > 0


def consensus(
    tau: Tensor, *, weights: Sequence[float] | None = None, how: Consensus = "mean"
) -> Tensor:
    """The mean, or the sum, of the entries that have the elected sign."""
    scaled = weighted(weights, tau)
    inside = agreed(scaled, elected_sign(scaled)).to(tau.dtype)
    total = summed(scaled * inside)
    if how == "sum":
        return total
    # the weights of those that agree, or their number; nothing is divided where nobody does
    counted = summed(weighted(weights, inside))
    return total / torch.where(counted == 0, 1, counted)
