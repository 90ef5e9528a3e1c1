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
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Blocks,
    Entries,
    Members,
    Passes,
    Statistics,
    Unit,
    at_ranks,
    check_density,
    from_base,
    summed,
    weighted,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class PCB:
    """``scale`` is lambda, ``weights`` are factors of the task vectors."""

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    whole: ClassVar[bool] = True
    cut: ClassVar[str] = "passes"

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
        rule = Passes(self._balanced, self._limits)
        return from_base(members, base, rule, unit=self.unit)

    def _limits(self, tau: Entries) -> _Limits:
        """Where moduli are cut, and then where scores are: of each member (T, 2)."""
        moduli = tau.mapped(lambda block: weighted(self.weights, block).abs())
        modulus = _quantiles(moduli, tau.count, low=self.clip, high=self.clip)
        scores = tau.mapped(lambda block: self._scores(block, modulus)[1])
        return _Limits(modulus, _quantiles(scores, tau.count, low=1 - self.density, high=0.0))

    def _scores(self, tau: Tensor, modulus: Tensor) -> tuple[Tensor, Tensor]:
        """Task vectors whose moduli are cut, and their scores."""
        flat = weighted(self.weights, tau)
        cut = _clamped(flat.abs(), modulus)
        flat = flat.sign() * cut
        within = torch.exp(len(flat) * _unit_range(cut, modulus).square())
        return flat, within * torch.tanh(flat * summed(flat))

    def _balanced(self, tau: Tensor, name: str, limits: _Limits) -> Tensor:
        flat, scores = self._scores(tau, limits.modulus)
        score = _unit_range(_clamped(scores, limits.score), limits.score)
        return self.scale * summed(score * flat) / summed(score).clamp(min=1e-12)


class _Limits(NamedTuple):
    """The ends of moduli and of scores."""

    modulus: Tensor
    score: Tensor


def _quantiles(blocks: Blocks, count: int, *, low: float, high: float) -> Tensor:
    """The entries of each member at the shares ``low`` and 1 - ``high`` of its sorted ones."""
    size = blocks.size
    first, last = min(int(size * low), size - 1), max(int(size * (1 - high) - 1), 0)
    found = at_ranks(blocks, [[size - first, size - last]] * count)
    return torch.stack([found[:, 0], found.amax(1)], 1)


def _clamped(x: Tensor, limits: Tensor) -> Tensor:
    low, high = limits[:, :1], limits[:, 1:]
    return torch.minimum(torch.maximum(x, low), high)


def _unit_range(x: Tensor, limits: Tensor) -> Tensor:
    """Rows from 0 to 1; a constant row, where nothing wins or loses, is 1."""
    low, high = limits[:, :1], limits[:, 1:]
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1), 1.0)
