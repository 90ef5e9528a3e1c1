"""Model Stock: how far to go from the base towards the mean, from the angle between members.

    tau_t = theta_t - theta_0,   c = mean of cos(tau_s, tau_t) over pairs s < t
    r = T c / (1 + (T - 1) c),   theta = theta_0 + r * mean_t tau_t

Jang et al. (2024), arXiv 2403.19522, section 4.2. A negative c, which the paper does not meet,
counts as 0: members that disagree leave the base as it is.

Limitations: needs at least two members that are fine-tunes of one base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Members,
    Passes,
    Statistics,
    from_base,
    products,
    summed,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class ModelStock:
    """One ratio for each tensor, or with ``unit="row"`` for what belongs to each unit.

    clamped: whether a negative cosine counts as 0; otherwise such members go away from their mean.

    >>> import torch
    >>> base, a, b = ({"w": torch.tensor(w)} for w in ([0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]))
    >>> [round(x, 4) for x in ModelStock().solve([a, b], base=base)["w"].tolist()]
    [0.5, 0.2887]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"

    unit: Literal["tensor", "row"] = "tensor"
    clamped: bool = True

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The network between base and mean; raises ValueError for fewer than two members."""
        if len(members) < 2:
            raise ValueError("ModelStock takes its ratio from angles: give at least two members")
        if self.unit == "row":
            rule = Passes(lambda rows, *_: self._towards(rows, _gram(rows)), rows=True)
        else:
            rule = Passes(self._whole, lambda tau: products(tau)[None])
        return from_base(members, base, rule)

    def _whole(self, tau: Tensor, name: str, gram: Tensor) -> Tensor:
        return self._towards(tau[:, None], gram)

    def _towards(self, rows: Tensor, gram: Tensor) -> Tensor:
        """The way to the mean of rows (T, units, k) with their inner products (units, T, T)."""
        count = len(rows)
        cosine = _mean_cosine(gram)
        cosine = cosine.clamp(min=0) if self.clamped else cosine
        ratio = count * cosine / (1 + (count - 1) * cosine)
        return (ratio / count).to(rows)[:, None] * summed(rows)


def _gram(rows: Tensor) -> Tensor:
    wide = rows.transpose(0, 1).double()
    return wide @ wide.mT


def _mean_cosine(gram: Tensor) -> Tensor:
    """Mean cosine over pairs of members, for each unit (units, T, T); a zero has cosine 0."""
    squares = gram.diagonal(dim1=1, dim2=2)
    lengths = (squares[:, :, None] * squares[:, None]).sqrt()
    cosines = gram / torch.where(lengths == 0, 1, lengths)
    count = gram.shape[1]
    own = cosines.diagonal(dim1=1, dim2=2).sum(1)
    return (cosines.sum((1, 2)) - own) / (count * (count - 1))
