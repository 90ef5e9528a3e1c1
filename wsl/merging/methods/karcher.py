"""The Karcher mean of directions: the point of a sphere that is nearest to all of them.

    u <- exp_u(sum_t w_t log_u(theta_t / |theta_t|))   until the step vanishes
    theta = u * sum_t w_t |theta_t|

Karcher (1977); a fixed point of what `MultiSlerp` does once.

Limitations: directions that lie further apart than a half sphere may have several such points, of
which the one nearest to the mean direction is found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.methods.multislerp import directions, step
from wsl.merging.pieces import Members, Statistics, combined, shares, tangent
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class Karcher:
    """``weights`` need not sum to one; it ends after ``max_iter`` steps or a step below ``tol``."""

    needs: ClassVar[frozenset[str]] = frozenset()

    weights: Sequence[float] | None = None
    max_iter: int = 10
    tol: float = 1e-5

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The mean of directions times the mean of lengths."""
        return combined(members, self._mean)

    def _mean(self, tensors: Tensor, name: str) -> Tensor:
        part = torch.tensor(shares(self.weights, len(tensors))).to(tensors)
        unit, lengths = directions(tensors)
        mean = part @ unit
        # All are zero, or their directions cancel: then nothing is nearer than the first.
        start = mean if bool(mean.any()) else unit[0]
        point = start / start.norm().clamp(min=torch.finfo(start.dtype).tiny)
        for _ in range(self.max_iter):
            move = part @ tangent(point, unit)
            point = step(point, move)
            if move.norm() < self.tol:
                break
        return (point * (part @ lengths)).view_as(tensors[0])
