"""Between weights and nodes: weights of single units, messages along the others, and readings.

    lift     h_i = sum_k v_i[k] L_k            for tensors v with one axis of units
    message  m_i = sum_jk W_ij[k] A_k h_j      for tensors W with two; backwards with W transposed
    reading  sum_i v_i[k] h_i,  mean_i e_i,  max_i e_i

Each keeps parity: what flips with a unit meets what flips with it. Sums over units are divided by
the root of their number. More than RANK fixed positions are mixed down to as many, learned, before
they meet features: E RANK + N RANK d^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.functionals.nodes import NodeBlocks, Slot
from wsl.nn.functionals.parity import by_slot, linear, padded
from wsl.nn.functionals.trunk import with_logarithm

RANK = 9
"""Most fixed positions that meet features one by one: those of a 3 x 3 kernel."""


class Nodes:
    """Rows of slots in packed features (batch, nodes, d)."""

    def __init__(self, blocks: NodeBlocks):
        self.blocks, self.sizes = blocks, blocks.sizes
        self.rows = sum(self.sizes[: blocks.signed])

    def at(self, end: Slot, e: Tensor, o: Tensor) -> Tensor:
        """Features of an end: signed ones of its slot, or even ones.

        Even ones are averaged if the group has several slots.
        """
        where = self.blocks.targets(end)
        if end.parity:
            return o.split(self.sizes[: self.blocks.signed], 1)[where[0]]
        parts = e.split(self.sizes, 1)
        return _total([parts[i] for i in where]) / len(where)

    def pack(
        self, found: Sequence[tuple[Slot, Tensor]], like: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        """Sums of what is said to each end, as rows of even and of signed nodes.

        Even ones are (batch, nodes, width), signed ones (batch, signed nodes, width).
        """
        even: list[list[Tensor]] = [[] for _ in self.sizes]
        odd: list[list[Tensor]] = [[] for _ in self.sizes[: self.blocks.signed]]
        for end, value in found:
            for i in self.blocks.targets(end):
                (odd if end.parity else even)[i].append(value)
        return self._joined(even, like, width), self._joined(odd, like, width)

    def _joined(self, parts: list[list[Tensor]], like: Tensor, width: int) -> Tensor:
        """Slot after slot, zeros for those to which nothing is said."""
        silent, batch = like.new_zeros(1, 1, 1), len(like)
        if not any(parts):
            return silent.expand(batch, sum(self.sizes[: len(parts)]), width)
        rows = [
            _total(part) if part else silent.expand(batch, size, width)
            for part, size in zip(parts, self.sizes, strict=False)
        ]
        return torch.cat(rows, 1)


class NodeLift(nn.Module):
    """Weights of single units to the first features of their nodes."""

    def __init__(self, blocks: NodeBlocks, hidden: int):
        super().__init__()
        self.nodes, self.pieces = Nodes(blocks), blocks.pieces
        self.own = [i for i, piece in enumerate(self.pieces) if len(piece.ends) == 1]
        self.maps = nn.ModuleList(linear(2 * self.pieces[i].channels, 2 * hidden) for i in self.own)
        self.start = nn.Parameter(0.1 * torch.randn(len(blocks.slots), hidden))

    def forward(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Even (batch, nodes, d) and signed features (batch, signed nodes, d)."""
        found = [
            (self.pieces[i].ends[0], lift(with_logarithm(pieces[i])))
            for i, lift in zip(self.own, self.maps, strict=True)
        ]
        even, odd = self.nodes.pack(found, pieces[0], 2 * self.start.shape[1])
        (a, b), (c, d) = even.chunk(2, -1), odd.chunk(2, -1)
        start = by_slot(self.start, self.nodes.sizes)
        return a + F.gelu(b) + start + padded(d.cos(), start.shape[0]), c + d.sin()


class Messages(nn.Module):
    """Products of weights and node features, summed at each node."""

    def __init__(self, blocks: NodeBlocks, hidden: int, *, bidirectional: bool):
        super().__init__()
        self.nodes, self.hidden, self.bidirectional = Nodes(blocks), hidden, bidirectional
        self.pieces = blocks.with_ends(2)
        channels, ways = [piece.channels for _, piece in self.pieces], 1 + bidirectional
        self.ranks = nn.ModuleList(_mixing(count) for count in channels)
        self.maps = nn.ParameterList(_maps(hidden, ways, _rank(count)) for count in channels)
        self.families = [(Slot(own, ()), Slot(parent, ())) for own, parent in blocks.families()]
        self.kin = nn.ParameterList(_maps(hidden, 2, 1) for _ in self.families)
        self.shared = _shared(blocks)
        self.same = nn.ModuleList(linear(hidden, hidden) for _ in self.shared)

    def forward(self, pieces: Sequence[Tensor], e: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
        """Even and signed messages."""
        at = functools.partial(self.nodes.at, e=e, o=o)
        # A signed feature flips with its unit alone, so only even ones may go without a weight.
        found = [*self._along_families(at), *self._within_groups(at)]
        for (i, piece), mixing, weight in zip(self.pieces, self.ranks, self.maps, strict=True):
            w, (target, source) = mixing(pieces[i]), piece.ends
            found.append((target, _message(w, at(source), weight[0])))
            if self.bidirectional:
                found.append((source, _message(w.transpose(1, 2), at(target), weight[1])))
        return self.nodes.pack(found, e, self.hidden)

    def _along_families(self, at: Callable[[Slot], Tensor]) -> Iterator[tuple[Slot, Tensor]]:
        """A parent hears the mean of its family, a family its parent; even features only."""
        for (up, down), (own, parent) in zip(self.kin, self.families, strict=True):
            h, p = at(own), at(parent)
            yield parent, F.linear(h.unflatten(1, (p.shape[1], -1)).mean(2), up)
            yield own, F.linear(p, down).repeat_interleave(h.shape[1] // p.shape[1], 1)

    def _within_groups(self, at: Callable[[Slot], Tensor]) -> Iterator[tuple[Slot, Tensor]]:
        """Between the slots of one group; even features only."""
        for layer, group in zip(self.same, self.shared, strict=True):
            yield group, layer(at(group))


def _shared(blocks: NodeBlocks) -> list[Slot]:
    """Groups with more than one slot, as ends without sign."""
    groups = [slot.group for slot in blocks.slots]
    return [Slot(group, ()) for group in dict.fromkeys(groups) if groups.count(group) > 1]


class Reader(nn.Module):
    """All nodes to invariants of the network (batch, features); maxima only with ``maximum``."""

    def __init__(self, blocks: NodeBlocks, hidden: int, *, maximum: bool = False):
        super().__init__()
        self.maximum = maximum
        self.nodes = Nodes(blocks)
        self.own, alone = blocks.with_ends(1), blocks.with_ends(0)
        self.alone = [i for i, _ in alone]
        self.ranks = nn.ModuleList(_mixing(piece.channels) for _, piece in self.own)
        products = sum(_rank(piece.channels) for _, piece in self.own)
        scalars = sum(piece.channels for _, piece in alone)
        self.features = hidden * (len(blocks.slots) * (1 + maximum) + products) + scalars

    def forward(self, pieces: Sequence[Tensor], e: Tensor, o: Tensor) -> Tensor:
        """Means and maxima over the nodes of each slot, products with weights, global weights."""
        parts = e.split(self.nodes.sizes, 1)
        means = [part.mean(1) for part in parts]
        peaks = [part.amax(1) for part in parts if self.maximum]
        scalars = (pieces[i] for i in self.alone)
        return torch.cat([*means, *peaks, *self._products(pieces, e, o), *scalars], 1)

    def _products(self, pieces: Sequence[Tensor], e: Tensor, o: Tensor) -> Iterator[Tensor]:
        """Weights of single units times the features of their nodes, which flip together."""
        for (i, piece), mixing in zip(self.own, self.ranks, strict=True):
            v = mixing(pieces[i])
            product = v.transpose(1, 2) @ self.nodes.at(piece.ends[0], e, o)
            yield product.flatten(1) / math.sqrt(v.shape[1])


def _total(parts: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def _maps(hidden: int, ways: int, rank: int) -> Tensor:
    return torch.randn(ways, rank * hidden, hidden) * hidden**-0.5


def _message(w: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """(batch, n, m, K), (batch, m, d), (K d', d) to (batch, n, d')."""
    batch, n, m, channels = w.shape
    said = F.linear(h, weight / math.sqrt(m * channels)).unflatten(-1, (channels, -1))
    return w.reshape(batch, n, m * channels) @ said.flatten(1, 2)


def _rank(channels: int) -> int:
    return min(channels, RANK)


def _mixing(channels: int) -> nn.Module:
    return linear(channels, RANK) if channels > RANK else nn.Identity()
