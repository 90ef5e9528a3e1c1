"""PCB: parameters compete within their task and between tasks, and the losers are dropped.

    intra_t = exp(T mm(|tau_t|)^2),    inter_t = tanh(tau_t * sum_s tau_s),    s_t = intra * inter
    keep the share ``density`` of largest s_t;   s_t <- mm(s_t)
    theta = theta_0 + lambda sum_t s_t tau_t / sum_t s_t

with mm(x) = (x - min x) / (max x - min x) over the whole network. Du et al. (2024), arXiv
2410.02396. The paper's formulas have softmax in both places; these are those of the authors' code,
with which their results were found. It cuts |tau_t| at its quantiles ``clip`` first.

Limitations: the results of the paper take lambda from a search on validation data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, Unit, check_density, from_base, weighted
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class PCB:
    """``scale`` is lambda, ``weights`` are factors of the task vectors."""

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    whole: ClassVar[bool] = True

    density: float = 0.05
    clip: float = 1e-4
    scale: float = 1.0
    weights: Sequence[float] | None = None
    unit: Unit = "vector"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for a density outside (0, 1]."""
        check_density(self.density, method="PCB")
        return from_base(members, base, self._balanced, unit=self.unit)

    def _balanced(self, tau: Tensor, name: str) -> Tensor:
        flat = weighted(self.weights, tau).reshape(len(tau), -1)
        flat = flat.sign() * _clamped(flat.abs(), self.clip, self.clip)
        within = torch.exp(len(flat) * _unit_range(flat.abs()).square())
        across = torch.tanh(flat * flat.sum(0))
        score = _unit_range(_clamped(within * across, 1 - self.density, 0.0))
        total = score.sum(0)
        merged = (score * flat).sum(0) / total.clamp(min=1e-12)
        return self.scale * merged.view_as(tau[0])


def _clamped(x: Tensor, low: float, high: float) -> Tensor:
    """Rows (T, P), cut at the shares ``low`` and 1 - ``high`` of their sorted entries."""
    size = x.shape[1]
    first, last = min(int(size * low), size - 1), max(int(size * (1 - high) - 1), 0)
    bottom, top = (x.kthvalue(k + 1, dim=1, keepdim=True).values for k in (first, last))
    return torch.minimum(torch.maximum(x, bottom), torch.maximum(bottom, top))


def _unit_range(x: Tensor) -> Tensor:
    """Rows from 0 to 1; a constant row, where nothing wins or loses, is 1."""
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1), 1.0)
