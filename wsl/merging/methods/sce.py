"""SCE: select entries in which the members vary, weigh members by their energy, erase minorities.

    select      the share ``select`` of positions with the largest variance over members
    calculate   w_t = mean(tau_t^2) / sum_s mean(tau_s^2)          one weight for each tensor
    erase       entries whose sign is not that of sum_t tau_t
    theta = theta_0 + sum_t w_t tau_t / sum_t w_t                   over what is left of an entry

Wan et al. (2024), FuseChat, arXiv 2408.07990, section 3.2.

Limitations: of one member nothing varies, and it is returned as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Members,
    Statistics,
    agreed,
    check_density,
    elected_sign,
    from_base,
    keep_largest,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class SCE:
    """``select`` is the share of positions of each tensor that take part."""

    needs: ClassVar[frozenset[str]] = frozenset({"base"})

    select: float = 1.0

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for a share outside (0, 1]."""
        check_density(self.select, method="SCE")
        return from_base(members, base, self._fused)

    def _fused(self, tau: Tensor, name: str) -> Tensor:
        if self.select < 1 and len(tau) > 1:
            chosen = keep_largest(tau.var(0, correction=0)[None], self.select)[0] > 0
            tau = torch.where(chosen, tau, 0)
        energy = tau.reshape(len(tau), -1).square().mean(1)
        weights = energy.view(-1, *[1] * (tau.dim() - 1)) * agreed(tau, elected_sign(tau))
        total = weights.sum(0)
        return (weights * tau).sum(0) / torch.where(total == 0, 1, total)
