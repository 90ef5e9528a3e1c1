"""Between weights and nodes: weights that belong to one unit, messages along the others, and
readings of the whole.

    lift     h_i = sum_k v_i[k] L_k            for tensors v with one axis of units
    message  m_i = sum_jk W_ij[k] A_k h_j      for tensors W with two, and with W transposed
                                               backwards
    reading  sum_i v_i[k] h_i,  mean_i e_i,  max_i e_i

Each keeps parity: what flips with a unit meets what flips with it. Sums over units are divided by
the root of their number. More than RANK fixed positions are mixed down to as many, learned, before
they meet features: E RANK + N RANK d^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.functionals.nodes import Blocks, Slot
from wsl.nn.functionals.parity import linear, padded

RANK = 9


class Nodes:
    """Rows of slots in packed features (batch, nodes, d)."""

    def __init__(self, blocks: Blocks):
        self.blocks, self.sizes = blocks, blocks.sizes
        self.rows = sum(self.sizes[: blocks.signed])

    def at(self, end: Slot, e: Tensor, o: Tensor) -> Tensor:
        """Features of an end: signed ones of its slot, or even ones, averaged if its group has
        several slots.
        """
        where = self.blocks.targets(end)
        if end.parity:
            return o.split(self.sizes[: self.blocks.signed], 1)[where[0]]
        parts = e.split(self.sizes, 1)
        return _total([parts[i] for i in where]) / len(where)

    def pack(
        self, found: Sequence[tuple[Slot, Tensor]], like: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        """Sums of what is said to each end, as even (batch, nodes, width) and signed (batch, signed
        nodes, width) rows.
        """
        even: list[list[Tensor]] = [[] for _ in self.sizes]
        odd: list[list[Tensor]] = [[] for _ in self.sizes[: self.blocks.signed]]
        for end, value in found:
            for i in self.blocks.targets(end):
                (odd if end.parity else even)[i].append(value)

        return self._joined(even, like, width), self._joined(odd, like, width)

    def _joined(self, parts: list[list[Tensor]], like: Tensor, width: int) -> Tensor:
        silent = like.new_zeros(1, 1, 1)
        if not any(parts):
            return silent.expand(len(like), sum(self.sizes[: len(parts)]), width)
        sized = zip(parts, self.sizes, strict=False)
        return torch.cat(
            [
                _total(part) if part else silent.expand(len(like), size, width)
                for part, size in sized
            ],
            1,
        )


class Lift(nn.Module):
    """Weights of single units to the first features of their nodes."""

    def __init__(self, blocks: Blocks, hidden: int):
        super().__init__()
        self.nodes, self.pieces = Nodes(blocks), blocks.pieces
        self.own = [i for i, piece in enumerate(self.pieces) if len(piece.ends) == 1]
        self.maps = nn.ModuleList(linear(2 * self.pieces[i].channels, 2 * hidden) for i in self.own)
        self.start = nn.Parameter(0.1 * torch.randn(len(blocks.slots), hidden))

    def forward(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Even (batch, nodes, d) and signed features (batch, signed nodes, d)."""
        found = [
            (self.pieces[i].ends[0], lift(_widened(pieces[i])))
            for i, lift in zip(self.own, self.maps, strict=True)
        ]
        even, odd = self.nodes.pack(found, pieces[0], 2 * self.start.shape[1])
        (a, b), (c, d) = even.chunk(2, -1), odd.chunk(2, -1)
        start = torch.cat(
            [row.expand(size, -1) for row, size in zip(self.start, self.nodes.sizes, strict=True)]
        )
        return a + F.gelu(b) + start + padded(d.cos(), start.shape[0]), c + d.sin()


class Messages(nn.Module):
    """Products of weights and node features, summed at each node."""

    def __init__(self, blocks: Blocks, hidden: int, *, bidirectional: bool):
        super().__init__()
        self.nodes, self.hidden, self.bidirectional = Nodes(blocks), hidden, bidirectional
        self.pieces = [(i, piece) for i, piece in enumerate(blocks.pieces) if len(piece.ends) == 2]
        self.ranks = nn.ModuleList(_mixing(piece.channels) for _, piece in self.pieces)
        ways = 1 + bidirectional
        self.maps = nn.ParameterList(
            _maps(hidden, ways, _rank(piece.channels)) for _, piece in self.pieces
        )
        self.families = [(Slot(own, ()), Slot(parent, ())) for own, parent in blocks.families()]
        self.kin = nn.ParameterList(_maps(hidden, 2, 1) for _ in self.families)
        groups = [slot.group for slot in blocks.slots]
        self.shared = [
            Slot(group, ()) for group in dict.fromkeys(groups) if groups.count(group) > 1
        ]
        self.same = nn.ModuleList(linear(hidden, hidden) for _ in self.shared)

    def forward(self, pieces: Sequence[Tensor], e: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
        """Even and signed messages."""
        found = list(self._without_weights(e, o))
        for (i, piece), mixing, weight in zip(self.pieces, self.ranks, self.maps, strict=True):
            w = mixing(pieces[i])
            target, source = piece.ends
            found.append((target, _message(w, self.nodes.at(source, e, o), weight[0])))
            if self.bidirectional:
                found.append(
                    (source, _message(w.transpose(1, 2), self.nodes.at(target, e, o), weight[1]))
                )
        return self.nodes.pack(found, e, self.hidden)

    def _without_weights(self, e: Tensor, o: Tensor) -> Iterator[tuple[Slot, Tensor]]:
        """Between a family and its parent, and between the slots of one group: even features
        only.
        """
        for (up, down), (own, parent) in zip(self.kin, self.families, strict=True):
            h, p = self.nodes.at(own, e, o), self.nodes.at(parent, e, o)
            yield parent, F.linear(h.unflatten(1, (p.shape[1], -1)).mean(2), up)
            yield own, F.linear(p, down).repeat_interleave(h.shape[1] // p.shape[1], 1)
        for layer, group in zip(self.same, self.shared, strict=True):
            yield group, layer(self.nodes.at(group, e, o))


class Reader(nn.Module):
    """All nodes to invariants of the network (batch, features), maxima only with ``maximum``."""

    def __init__(self, blocks: Blocks, hidden: int, *, maximum: bool = False):
        super().__init__()
        self.maximum = maximum
        self.nodes = Nodes(blocks)
        self.own = [(i, piece) for i, piece in enumerate(blocks.pieces) if len(piece.ends) == 1]
        self.alone = [i for i, piece in enumerate(blocks.pieces) if not piece.ends]
        self.ranks = nn.ModuleList(_mixing(piece.channels) for _, piece in self.own)
        scalars = sum(blocks.pieces[i].channels for i in self.alone)
        ways = len(blocks.slots) * (1 + maximum) + sum(
            _rank(piece.channels) for _, piece in self.own
        )
        self.features = hidden * ways + scalars

    def forward(self, pieces: Sequence[Tensor], e: Tensor, o: Tensor) -> Tensor:
        """Means and maxima over the nodes of each slot, products with the weights of single units,
        global weights.
        """
        parts = e.split(self.nodes.sizes, 1)
        found = [part.mean(1) for part in parts] + [part.amax(1) for part in parts if self.maximum]
        for (i, piece), mixing in zip(self.own, self.ranks, strict=True):
            v = mixing(pieces[i])
            found.append(
                (v.transpose(1, 2) @ self.nodes.at(piece.ends[0], e, o)).flatten(1)
                / math.sqrt(v.shape[1])
            )
        return torch.cat([*found, *(pieces[i] for i in self.alone)], 1)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def _maps(hidden: int, ways: int, rank: int) -> Tensor:
    return torch.randn(ways, rank * hidden, hidden) * hidden**-0.5


def _message(w: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """(batch, n, m, K), (batch, m, d), (K d', d) to (batch, n, d')."""
    batch, n, m, channels = w.shape
    said = F.linear(h, weight / math.sqrt(m * channels)).unflatten(-1, (channels, -1))
    return w.reshape(batch, n, m * channels) @ said.flatten(1, 2)


def _widened(x: Tensor) -> Tensor:
    return torch.cat([x, x.sign() * x.abs().log1p()], -1)


def _rank(channels: int) -> int:
    return min(channels, RANK)


def _mixing(channels: int) -> nn.Module:
    return linear(channels, RANK) if channels > RANK else nn.Identity()
