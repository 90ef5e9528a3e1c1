"""Several networks averaged on a sphere by one step from their mean direction.

    u_t = theta_t / |theta_t|,   m = sum_t w_t u_t / |sum_t w_t u_t|
    theta = exp_m(sum_t w_t (u_t - <u_t, m> m)) * sum_t w_t |theta_t|

Directions and lengths are averaged apart; directions are projected to the tangent plane at m, which
is what mergekit's multislerp does. Of two members with equal weights and lengths it is the point
half way on the great circle. See `Karcher` for the mean by true logarithms.

Limitations: directions whose mean is zero have no mean direction, which is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, combined, from_base, shares
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class MultiSlerp:
    """``weights`` need not sum to one; with a base, task vectors are averaged.

    eps: length of the mean direction below which there is none.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

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

        def mean(tensors: Tensor, name: str) -> Tensor:
            part = torch.tensor(shares(self.weights, len(tensors))).to(tensors)
            unit, lengths = directions(tensors)
            start = self._start(part @ unit, name, some=bool(lengths.any()))
            across = unit - (unit @ start)[:, None] * start
            found = step(start, part @ across)
            return (found * (part @ lengths)).view_as(tensors[0])

        return combined(members, mean) if base is None else from_base(members, base, mean)

    def _start(self, mean: Tensor, name: str, *, some: bool) -> Tensor:
        length = mean.norm()
        if some and length < self.eps:
            raise ValueError(
                f"{name}: the directions of the members cancel, so their spherical mean does not "
                "exist; change the weights, or average"
            )
        return mean / length if some else mean


def directions(tensors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (T, P) and lengths (T,) of stacked tensors; a zero has no direction."""
    flat = tensors.reshape(len(tensors), -1)
    lengths = flat.norm(dim=1)
    return flat / torch.where(lengths == 0, 1, lengths)[:, None], lengths


def step(point: Tensor, along: Tensor) -> Tensor:
    """From a unit vector along a tangent: the exponential map of the sphere."""
    angle = along.norm()
    return point * angle.cos() + along * torch.sinc(angle / torch.pi)
