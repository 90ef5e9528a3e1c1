"""Interpolation of two networks along a great circle, tensor by tensor.

    slerp_t(a, b) = (sin((1 - t) omega) a + sin(t omega) b) / sin omega

Shoemake (1985); customary in the merging of language models. The angle omega is that between a and
b as vectors, and a straight line is taken where its cosine exceeds 0.9995 in modulus.

Limitations: exactly two members; where lengths differ the result is on no sphere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from wsl.merging.pieces import Entries, Members, Passes, Statistics, arc, combined, mixed, products
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class Slerp:
    """The point at ``t`` on the arc from the first member (0) to the second (1).

    >>> import torch
    >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    >>> [round(x, 4) for x in Slerp(t=0.5).solve([a, b])["w"].tolist()]
    [0.7071, 0.7071]
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    ordered: ClassVar[bool] = True
    takes: ClassVar[int] = 2
    cut: ClassVar[str] = "passes"

    t: float = 0.5

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The interpolated network; raises ValueError unless there are two members."""
        check_two(members, "Slerp")
        return combined(members, on_arc(self.t))


def on_arc(t: float) -> Passes:
    """The point at ``t`` between whole tensors, by how much it has of each."""

    def parts(pair: Entries) -> Tensor:
        return arc(products(pair).flatten()[[0, 1, 3]], t)

    return Passes(mixed, parts)


def check_two(members: Members, method: str) -> None:
    """Raise ValueError unless there are two members."""
    if len(members) != 2:
        raise ValueError(f"{method} merges two members, got {len(members)}; see MultiSlerp")
