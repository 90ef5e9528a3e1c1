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

import torch
from torch import Tensor

from wsl.merging.methods.slerp import check_two, on_arc
from wsl.merging.pieces import (
    Entries,
    Members,
    Passes,
    Statistics,
    arc,
    between,
    combined,
    from_base,
    pair_products,
    shares,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class NuSlerp:
    """``weights`` of the two members, whose ratio alone matters; a base is used if given."""

    needs: ClassVar[frozenset[str]] = frozenset()
    ordered: ClassVar[bool] = True
    takes: ClassVar[int] = 2
    cut: ClassVar[str] = "passes"

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
        rule = {"tensor": on_arc, "row": _by_rows, "column": _by_columns}[self.unit](
            shares(self.weights, 2)[1]
        )
        return combined(members, rule) if base is None else from_base(members, base, rule)


def _by_rows(t: float) -> Passes:
    def part(pair: Tensor, name: str, known: None) -> Tensor:
        return between(pair[0], pair[1], t, dim=1)

    return Passes(part, rows=True)


def _by_columns(t: float) -> Passes:
    """Columns go through all blocks of rows, so their products are summed first."""

    def parts(pair: Entries) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=pair.device)
        for a, b in pair:
            total = total + pair_products(a, b, None if pair.is_vector else 0)
        return arc(total, t)

    def part(pair: Tensor, name: str, factors: Tensor) -> Tensor:
        a, b = factors.to(pair)
        return a * pair[0] + b * pair[1]

    return Passes(part, parts, rows=True)
