"""Model Stock: how far to go from the base towards the mean, from the angle between members.

    tau_t = theta_t - theta_0,   c = mean of cos(tau_s, tau_t) over pairs s < t
    r = T c / (1 + (T - 1) c),   theta = theta_0 + r * mean_t tau_t

Jang et al. (2024), arXiv 2403.19522, section 4.2. A negative c, which the paper does not meet,
counts as 0: members that disagree leave the base as it is.

Limitations: needs at least two members that are fine-tunes of one base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, from_base
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class ModelStock:
    """One ratio for each tensor, or with ``unit="row"`` for what belongs to each unit.

    clamped: whether a negative cosine counts as 0; otherwise such members go away from their mean.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})

    unit: Literal["tensor", "row"] = "tensor"
    clamped: bool = True

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The network between base and mean; raises ValueError for fewer than two members."""
        if len(members) < 2:
            raise ValueError("ModelStock takes its ratio from angles: give at least two members")
        return from_base(members, base, self._towards_mean)

    def _towards_mean(self, tau: Tensor, name: str) -> Tensor:
        by_row = self.unit == "row" and tau.dim() > 2
        rows = tau.flatten(2) if by_row else tau.reshape(len(tau), 1, -1)
        cosine = _mean_cosine(rows)
        cosine = cosine.clamp(min=0) if self.clamped else cosine
        ratio = len(tau) * cosine / (1 + (len(tau) - 1) * cosine)
        return (ratio[:, None] * rows.mean(0)).view_as(tau[0])


def _mean_cosine(rows: Tensor) -> Tensor:
    """Mean cosine over pairs of members (T, units, P), for each unit; a zero has cosine 0."""
    lengths = rows.norm(dim=2, keepdim=True)
    unit = rows / torch.where(lengths == 0, 1, lengths)
    own = (lengths[..., 0] > 0).sum(0)
    pairs = unit.sum(0).square().sum(1) - own
    return pairs / (len(rows) * (len(rows) - 1))
