"""`AttentionPool`: from features on weights to features of the network, each weight counted as much
as it asks for.

    z_h = sum_i softmax_i(w_h . x_i) x_i       for each block and each of its heads h, over all
                                               positions i of the block

One learned query for each head and block. Set Transformer's pooling by multihead attention with one
seed for each head and no maps beyond the query (Lee et al. 2019, arXiv 1810.00825); Navon et al.
(2023), arXiv 2301.12780, for attention in set layers of weights. Invariant because a softmax over
positions does not know their order. Linear cost. With w = 0 it is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsl.nn.engine.basis import Space


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
