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

from wsl.merging.methods.multislerp import RESOLVED, directions, in_members, norm, step
from wsl.merging.pieces import (
    Entries,
    Members,
    Passes,
    Statistics,
    combined,
    mixed,
    products,
    shares,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class Karcher:
    """``weights`` need not sum to one; it ends after ``max_iter`` steps or a step below ``tol``."""

    needs: ClassVar[frozenset[str]] = frozenset()
    cut: ClassVar[str] = "passes"

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
        return combined(members, Passes(mixed, self._factors))

    def _factors(self, tensors: Entries) -> Tensor:
        """How much of each member the mean has."""
        cosines, lengths = directions(products(tensors))
        part = lengths.new_tensor(shares(self.weights, tensors.count))
        # All are zero, or their directions cancel: then nothing is nearer than the first.
        mean = norm(part, cosines)
        first = torch.zeros_like(part).index_fill_(0, torch.tensor(0, device=part.device), 1)
        point = part / mean if mean > RESOLVED else first
        for _ in range(self.max_iter):
            move = _towards(point, part, cosines)
            point = step(point, move, cosines)
            if norm(move, cosines) < self.tol:
                break
        return in_members(point, lengths) * (part @ lengths)


def _towards(point: Tensor, part: Tensor, cosines: Tensor) -> Tensor:
    """The mean of the members as seen from a point: of their logarithm maps."""
    cosine = (cosines @ point).clamp(-1, 1)
    length = (cosines.diagonal() - cosine.square()).clamp(min=0).sqrt()
    angle = torch.atan2(length, cosine)  # acos loses half of the digits near 0
    # what lies at the point or opposite to it has no direction from there
    stretch = torch.where(length > RESOLVED, angle / length, 1.0) * part
    return stretch - (stretch @ cosine) * point
