"""Attention over sets for `DWSNet`: between the units of each group, and as a pooling of weights.

`UnitAttention`: the units of each group attend to each other, and tell all weights what they found.

    q_i, k_i, v_i = H(x)_i;     o_i = q_i + sum_j softmax_j(q_i . k_j / sqrt(d)) v_j
    o_i <- o_i + relu(O o_i);   y = H'(o)

with H all affine equivariant maps of the weights to the units of a group, H' all such maps back, O
a matrix for each group. The set attention block of the Set Transformer (Lee et al. 2019, arXiv
1810.00825) without norms, the choice beside Deep Sets in the released code of Navon et al. (2023),
arXiv 2301.12780. There each pair of tensors on a group has a block of its own, which replaces the
linear map, for MLPs; here there is one for each group, whose units know all their tensors, for any
architecture. Softmax: cost is quadratic in the number of units. A family's units are (head, dk)
together.

`AttentionPool`: each weight counts as much as it asks for.

    z_h = sum_i softmax_i(w_h . x_i) x_i       for each block and head h, over all positions i

One learned query for each head and block: the Set Transformer's pooling by multihead attention with
one seed for each head and no maps beyond the query. Invariant because a softmax over positions does
not know their order. Linear cost. With w = 0 it is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import BlockLinear, Space
from wsl.nn.functional import check_heads


class UnitAttention(nn.Module):
    """Blocks (*axes, batch, channels) to blocks of the same axes.

    Every unit has ``hidden`` channels. Raises ValueError unless ``heads`` divides ``hidden``.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spaces: Sequence[Space],
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        hidden: int,
        heads: int,
    ):
        super().__init__()
        check_heads("UnitAttention", hidden, heads)
        self.units, self.heads = units(spaces), heads
        count = len(self.units)
        self.enter = BlockLinear(
            spaces, self.units, in_channels=in_channels, out_channels=[3 * hidden] * count
        )
        self.mix = nn.ModuleList(nn.Linear(hidden, hidden) for _ in self.units)
        self.leave = BlockLinear(
            self.units, spaces, in_channels=[hidden] * count, out_channels=out_channels
        )

    def forward(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Attend within each group."""
        found = zip(self.enter(pieces), self.mix, strict=True)
        return self.leave([self._attend(x, cast("nn.Linear", mix)) for x, mix in found])

    def _attend(self, x: Tensor, mix: nn.Linear) -> Tensor:
        """(*units, batch, 3 hidden) to (*units, batch, hidden)."""
        rows = x.flatten(0, -3).transpose(0, 1)
        q, k, v = rearrange(
            rows,
            "batch unit (role head d) -> role batch head unit d",
            role=3,
            head=self.heads,
        )
        o = q + F.scaled_dot_product_attention(q, k, v)
        o = rearrange(o, "batch head unit d -> unit batch (head d)")
        return (o + mix(o).relu()).view(*x.shape[:-1], -1)


def units(spaces: Sequence[Space]) -> tuple[Space, ...]:
    """One space for each group on the axes of ``spaces``, in order: its units.

    Those of a family have their parents beside them.
    """
    found: dict[str, Space] = {}
    for space in spaces:
        for axis in space:
            own = (axis,) if axis.parent is None else (space[axis.parent], axis._replace(parent=0))
            found.setdefault(axis.group, own)
    return tuple(found.values())


class AttentionPool(nn.Module):
    """Blocks (*axes, batch, channels) to (batch, features); blocks of one position are left out."""

    equivariance = "invariant"

    def __init__(self, spaces: Sequence[Space], channels: Sequence[int], *, heads: int):
        super().__init__()
        self.wide = [i for i, space in enumerate(spaces) if space]
        self.queries = nn.ModuleList(nn.Linear(channels[i], heads, bias=False) for i in self.wide)
        self.features = heads * sum(channels[i] for i in self.wide)

    def forward(self, pieces: Sequence[Tensor]) -> Tensor:
        """All heads of all blocks."""
        found = []
        for i, query in zip(self.wide, self.queries, strict=True):
            x = pieces[i].flatten(0, -3)
            found.append(torch.einsum("pbh,pbc->bhc", query(x).softmax(0), x).flatten(1))
        return torch.cat(found, -1)
