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
    Entries,
    Members,
    Passes,
    Statistics,
    agreed,
    check_density,
    elected_sign,
    from_base,
    least_kept,
    summed,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class SCE:
    """``select`` is the share of positions of each tensor that take part."""

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"

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
        return from_base(members, base, Passes(self._fused, self._known))

    def _known(self, tau: Entries) -> tuple[Tensor | None, Tensor]:
        """The smallest variance that is selected, if not all are; the energy of each member."""
        least = None
        if self.select < 1 and tau.count > 1:
            least = least_kept(tau.mapped(lambda block: _variance(block)[None]), self.select, 1)
        total = torch.zeros(tau.count, dtype=torch.float64, device=tau.device)
        for block in tau:
            total += _selected(block, least).double().square().sum(1)
        return least, total / max(tau.size, 1)

    def _fused(self, tau: Tensor, name: str, known: tuple[Tensor | None, Tensor]) -> Tensor:
        least, energy = known
        tau = _selected(tau, least)
        weights = energy.to(tau)[:, None] * agreed(tau, elected_sign(tau))
        total = summed(weights)
        return summed(weights * tau) / torch.where(total == 0, 1, total)


def _variance(tau: Tensor) -> Tensor:
    # torch's own takes ten times as long along this axis
    mean = summed(tau) / len(tau)
    return summed((tau - mean).square()) / len(tau)


def _selected(tau: Tensor, least: Tensor | None) -> Tensor:
    """Zero where the members vary less, or not at all."""
    if least is None:
        return tau
    variance = _variance(tau)
    return torch.where((variance >= least) & (variance > 0), tau, 0)
