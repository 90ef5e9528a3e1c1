"""Checkpoints of one run averaged as if its learning rate had decayed.

    theta_j = theta_0 + g_1 + ... + g_j                          at a constant rate
    theta_0 + sum_i w_i g_i = sum_j c_j theta_j                  with the rate times w_1, ..., w_k
    c_0 = 1 - w_1,    c_j = w_j - w_{j+1},    c_k = w_k

Warmup-stable-merge: Tian et al. (2025), arXiv 2507.17634.

Limitations: exact for the gradients that were met, which a decayed run would not have met.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from wsl.merging.methods.average import average
from wsl.merging.pieces import Members, Statistics
from wsl.params import Params

SCHEDULES = MappingProxyType(
    {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "sqrt": lambda x: 1 - math.sqrt(x),
    }
)
"""Decays from 1 at x = 0 to 0 at x = 1."""


@dataclasses.dataclass(frozen=True)
class CheckpointDecay:
    """``schedule`` names a decay, or gives w_1, ..., w_k; the members are in order of training."""

    needs: ClassVar[frozenset[str]] = frozenset()
    ordered: ClassVar[bool] = True
    cut: ClassVar[str] = "entries"

    schedule: str | Sequence[float] = "linear"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The weighted mean of the checkpoints."""
        return average(members, self.weights(len(members)))

    def weights(self, count: int) -> list[float]:
        """c_0, ..., c_k of ``count`` checkpoints; raises ValueError for a schedule that misfits."""
        decay = self._decay(count)
        return [a - b for a, b in zip([1.0, *decay], [*decay, 0.0], strict=True)]

    def _decay(self, count: int) -> list[float]:
        if isinstance(self.schedule, str):
            if self.schedule not in SCHEDULES:
                raise ValueError(
                    f"CheckpointDecay: schedule '{self.schedule}' does not exist; there are "
                    f"{', '.join(SCHEDULES)}, or give a list of factors"
                )
            return [SCHEDULES[self.schedule](j / count) for j in range(1, count)]
        told = [float(w) for w in self.schedule]
        if len(told) != count - 1:
            raise ValueError(
                f"CheckpointDecay: {count} checkpoints have {count - 1} steps between them, but "
                f"the schedule has {len(told)} factors"
            )
        return told
