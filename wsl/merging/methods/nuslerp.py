"""Spherical interpolation of two networks, or of their task vectors, by weights; whole or by rows.

    slerp_t(a, b)  with  t = w_2 / (w_1 + w_2)          with a base: theta_0 + slerp_t(tau_1, tau_2)

The form that mergekit calls nuslerp. With ``unit="row"`` every row of a matrix (what belongs to one
unit) has an angle of its own, with "column" every column; vectors are taken whole.

Limitations: exactly two members.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from wsl.merging.methods.slerp import check_two
from wsl.merging.pieces import Members, Statistics, between, combined, from_base, shares
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class NuSlerp:
    """``weights`` of the two members, whose ratio alone matters; a base is used if given."""

    needs: ClassVar[frozenset[str]] = frozenset()
    ordered: ClassVar[bool] = True
    takes: ClassVar[int] = 2

    weights: Sequence[float] = (1.0, 1.0)
    unit: Literal["tensor", "row", "column"] = "tensor"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The interpolated network; raises ValueError unless there are two members."""
        check_two(members, "NuSlerp")
        if base is None:
            return combined(members, self._between)
        return from_base(members, base, self._between)

    def _between(self, pair: Tensor, name: str) -> Tensor:
        t = shares(self.weights, 2)[1]
        a, b = pair
        if self.unit == "tensor" or a.dim() < 2:
            return between(a, b, t)
        rows = self.unit == "row"
        return between(a.flatten(1), b.flatten(1), t, dim=1 if rows else 0).view_as(a)
