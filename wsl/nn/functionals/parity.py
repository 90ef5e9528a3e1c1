"""Maps that keep parity: some features flip with their units, o -> s o, others do not, e -> e.

    u = G (m + S [o, o_0]),      t = gelu(E_1 norm(e) + E_2 cos u + m_e + c)
    e <- e + E_3 t,              o <- o + O (sin u * (1 + E_4 t))

sin of a linear map without bias is odd and cos is even, so a sign of a unit passes through exactly;
with messages m = W o and o_0 the unit's own weights, u can be the pre-activation of a sine network
at learned inputs: the layer can run the network that it reads. In ScaleGMN's terms this is
ScaleEq(x) = Gamma x * ScaleInv(x), Kalogeropoulos et al. (2024), arXiv 2406.10685, section 4, with
a sine around it. Linear maps here have no bias where their input flips. Rows are nodes, those with
signs first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(enter: int, leave: int, *, bias: bool = False, gain: float = 1.0) -> nn.Linear:
    """A linear map that keeps the variance, times ``gain``."""
    layer = nn.Linear(enter, leave, bias=bias)
    nn.init.normal_(layer.weight, std=gain * max(1, enter) ** -0.5)
    return layer


class NodeUpdate(nn.Module):
    """One step of all nodes.

    Every node has even features (batch, nodes, d), signed ones have more (batch, signed nodes, d).
    """

    def __init__(self, hidden: int, sizes: list[int], signed: int):
        super().__init__()
        self.sizes, self.rows = sizes, sum(sizes[:signed])
        self.norm, self.own = nn.LayerNorm(hidden), linear(hidden, hidden)
        self.shift = nn.Parameter(0.1 * torch.randn(len(sizes), hidden))
        self.leave = linear(hidden, hidden, bias=True, gain=0.5)
        if signed:
            self.gain = nn.Parameter(torch.ones(signed, hidden))
            self.self, self.cosine = linear(2 * hidden, hidden, gain=0.7), linear(hidden, hidden)
            self.gate = linear(hidden, hidden, bias=True, gain=0.5)
            self.out = linear(hidden, hidden, gain=0.5)

    def forward(
        self, e: Tensor, o: Tensor, start: Tensor, *, even: Tensor, odd: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``even`` and ``odd`` are messages, ``start`` the first signed features.

        ``context`` (batch, d) is the same for all nodes.
        """
        z = self.own(self.norm(e)) + even + context.unsqueeze(1) + by_slot(self.shift, self.sizes)
        if not self.rows:
            return e + self.leave(F.gelu(z)), o
        u = by_slot(self.gain, self.sizes) * (odd + self.self(torch.cat([o, start], -1)))
        t = F.gelu(z + padded(self.cosine(u.cos()), z.shape[1]))
        gate = 1 + self.gate(t[:, : self.rows])
        return e + self.leave(t), o + self.out(u.sin() * gate)


def by_slot(table: Tensor, sizes: Sequence[int]) -> Tensor:
    """A row for each slot to a row for each of its nodes."""
    return torch.cat([row.expand(size, -1) for row, size in zip(table, sizes, strict=False)])


def padded(x: Tensor, rows: int) -> Tensor:
    """(batch, n, d) to (batch, rows, d) with zeros."""
    return x if x.shape[1] == rows else F.pad(x, (0, 0, 0, rows - x.shape[1]))
