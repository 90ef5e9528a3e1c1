"""Several networks averaged on a sphere by one step from their mean direction.

    u_t = theta_t / |theta_t|,   m = sum_t w_t u_t / |sum_t w_t u_t|
    theta = exp_m(sum_t w_t (u_t - <u_t, m> m)) * sum_t w_t |theta_t|

Directions and lengths are averaged apart; directions are projected to the tangent plane at m, which
is what mergekit's multislerp does. Of two members with equal weights and lengths it is the point
half way on the great circle. All of it follows from inner products of the members, which are summed
in float64. See `Karcher` for the mean by true logarithms.

Limitations: directions whose mean is zero have no mean direction, which is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Entries,
    Members,
    Passes,
    Statistics,
    combined,
    from_base,
    mixed,
    products,
    shares,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class MultiSlerp:
    """``weights`` need not sum to one; with a base, task vectors are averaged.

    eps: length of the mean direction below which there is none; 1e-7 is the least that is resolved.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    cut: ClassVar[str] = "passes"

    weights: Sequence[float] | None = None
    eps: float = 1e-8

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The spherical mean; raises ValueError for directions that cancel, naming the tensor."""

        rule = Passes(mixed, self._factors)
        return combined(members, rule) if base is None else from_base(members, base, rule)

    def _factors(self, tensors: Entries) -> Tensor:
        """How much of each member the mean has."""
        cosines, lengths = directions(products(tensors))
        part = lengths.new_tensor(shares(self.weights, tensors.count))
        start = self._start(part, cosines, lengths, name=tensors.label)
        along = part - (part @ cosines @ start) * start
        return in_members(step(start, along, cosines), lengths) * (part @ lengths)

    def _start(self, mean: Tensor, cosines: Tensor, lengths: Tensor, *, name: str) -> Tensor:
        if not bool(lengths.any()):
            return mean
        length = norm(mean, cosines)
        if length < max(self.eps, RESOLVED):
            raise ValueError(
                f"{name}: the directions of the members cancel, so their spherical mean does not "
                "exist; change the weights, or average"
            )
        return mean / length


RESOLVED = 1e-7
"""Lengths of directions below it are not told from zero by products in float64."""


def directions(products: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (T, T) and lengths (T,) of members; a zero has no direction, and cosine 0.

    Every point that is looked for is a sum of directions, so that their factors (T,) tell it.
    """
    squares = products.diagonal()
    lengths = (squares[:, None] * squares).sqrt()
    return products / torch.where(lengths == 0, 1, lengths), squares.sqrt()


def in_members(point: Tensor, lengths: Tensor) -> Tensor:
    """Factors of members instead of their directions."""
    return point / torch.where(lengths == 0, 1, lengths)


def norm(point: Tensor, cosines: Tensor) -> Tensor:
    """The length of a sum of directions."""
    return (point @ cosines @ point).clamp(min=0).sqrt()


def step(point: Tensor, along: Tensor, cosines: Tensor) -> Tensor:
    """From a unit vector along a tangent: the exponential map of the sphere."""
    angle = norm(along, cosines)
    return point * angle.cos() + along * torch.sinc(angle / torch.pi)
