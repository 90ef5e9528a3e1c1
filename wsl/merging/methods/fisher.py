"""Fisher merging: a mean weighted by how much each member's predictions depend on each weight.

    theta_i = sum_t w_t F_t,i theta_t,i / sum_t w_t F_t,i

F_t is the diagonal of the Fisher information of member t: see `wsl.merging.statistics.fisher`.
Matena and Raffel (2022), arXiv 2111.09832.

Limitations: the scale of F_t decides how much a member counts; ``balance`` divides each member's
by its norm. Where no member's Fisher exceeds ``floor`` the plain mean results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, per_statistic, weighted
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class Fisher:
    """Statistics: a tensor of its shape, without negative entries, for each learned tensor."""

    needs: ClassVar[frozenset[str]] = frozenset({"statistics"})
    measures: ClassVar[str] = "fisher"
    whole: ClassVar[bool] = True  # the norm that balances is one of all tensors

    weights: Sequence[float] | None = None
    floor: float = 1e-6
    balance: bool = True

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The weighted mean; raises ValueError for statistics that do not fit."""
        lengths = [_length(one) if self.balance else 1.0 for one in statistics or ()]

        def mean(tensors: Tensor, known: list[Any], name: str) -> Tensor:
            rows = [f.to(tensors) / length for f, length in zip(known, lengths, strict=True)]
            importance = torch.stack(rows).clamp(min=self.floor)
            importance = weighted(self.weights, importance)
            return (importance * tensors).sum(0) / importance.sum(0)

        return per_statistic(members, statistics, mean)


def _length(statistics: Mapping[str, Tensor]) -> float:
    """The root of the mean square of all entries, 1 where all are zero."""
    total = sum(float(t.double().square().sum()) for t in statistics.values())
    count = sum(t.numel() for t in statistics.values())
    return (total / max(count, 1)) ** 0.5 or 1.0
