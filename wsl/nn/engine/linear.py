"""`BlockLinear`: all equivariant affine maps between two lists of blocks, run by a plan.

    out_b = sum_sig spread_b( concat_a( pool_a(x_a) ) @ W_sig )        (see `plan`)

One pooling pass per input, one matrix product per signature, one spreading pass per output: linear
in the number of weights, except that scalars meet all scalars. Reductions are means, not sums, so
that scale does not depend on width. Kernels whose axes count as permutable are folded (see `fold`).
Nothing here is nonlinear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine.basis import Space
from wsl.nn.engine.fold import Fold, fold_plan
from wsl.nn.engine.plan import Lane, Port, compile_plan
from wsl.nn.engine.reduce import Order, pool, pool_all, spread, spread_all


class BlockLinear(nn.Module):
    """All equivariant affine maps between two lists of blocks, each with channels of its own.

    ``forward`` takes and gives one tensor (*axes, batch, channels) for each block. Weights start so
    that each output has variance one for pooled features of variance one, in equal shares from the
    signatures that reach it; biases start at 0.
    """

    def __init__(
        self,
        sources: Sequence[Space],
        targets: Sequence[Space],
        *,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        bias: bool = True,
    ):
        super().__init__()
        self.plan = compile_plan(tuple(sources), tuple(targets))
        self.core, self.places, self.folds = fold_plan(tuple(sources), tuple(targets))
        counts = Counter(port.block for lane in self.plan.lanes for port in lane.outputs)
        shares = [counts[block] for block in range(len(targets))]
        self.lanes = nn.ModuleList(
            _LaneLinear(lane, in_channels, out_channels, shares=shares, bias=bias)
            for lane in self.plan.lanes
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pool, multiply, spread.

        The private axes of a block are folded, averaged for the rest, and come back at the end.
        """
        parts = list(inputs)
        folded = [(fold, fold.enter(inputs[fold.block])) for fold in self.folds]
        for fold, x in folded:
            # All that the other blocks can see of a private axis is its mean.
            parts[fold.block] = x.sum(0) * (1 / fold.slots)
        outputs = self._core(parts)
        for fold, x in folded:
            outputs[fold.block] = fold.leave(self._private(fold, x), outputs[fold.block])
        return outputs

    def _core(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The lanes in which no private axis survives."""
        # Lanes of the core know their ports in its smaller trees, but weights are the whole plan's,
        # so that a state dict does not depend on what is folded.
        core = self.core
        pooled = pool_all(core.inputs, parts)
        sums: list[list[Tensor | None]] = [[None] * len(tree.steps) for tree in core.outputs]
        for place, lane in zip(self.places, core.lanes, strict=True):
            for port, y in self._lane(place)(lane, pooled):
                sums[port.block][port.node] = y
        return spread_all(core.outputs, sums)

    def _private(self, fold: Fold, x: Tensor) -> Tensor:
        """The lanes that keep private axes: (slots, *rest, batch, channels)."""
        pooled = pool(fold.tree, fold.reflect(x))
        sums: list[Tensor | None] = [None] * len(fold.tree.steps)
        weights = self._slot_weights(fold, x)
        for node, weight in zip(fold.nodes, weights.transpose(-1, -2), strict=True):
            sums[node] = _slot_product(pooled[node], weight)
        return spread(fold.tree, sums)

    def _slot_weights(self, fold: Fold, like: Tensor) -> Tensor:
        """A matrix for each node and coordinate, the sum of the lanes that act on it."""
        lanes = [self._lane(place) for row in fold.lanes for place in row]
        nodes, sets = len(fold.lanes), len(fold.lanes[0])
        stack = torch.stack([lane.weight for lane in lanes]).view(nodes, sets, -1)
        mixed = torch.matmul(like.new_tensor(fold.mix), stack)
        return mixed.view(nodes, fold.slots, *lanes[0].shape)

    def _lane(self, place: int) -> _LaneLinear:
        return cast("_LaneLinear", self.lanes[place])


class _LaneLinear(nn.Module):
    """The matrix product of one signature."""

    def __init__(
        self,
        lane: Lane,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        shares: Sequence[int],
        bias: bool,
    ):
        super().__init__()
        self.lane, self.widths = lane, lane.rows(out_channels)
        columns = lane.columns(in_channels)
        dense = self._dense(lane.rows(shares), sum(columns))
        self.shape = dense.shape
        self.where: Tensor
        if lane.fits is not None:
            # Weights of pairs that fit are one vector: none of them is a zero that never learns.
            where = _entries(lane.fits, self.widths, columns)
            self.register_buffer("where", where, persistent=False)
            dense = dense.flatten()[where]
        self.weight = nn.Parameter(dense)
        # Only the empty signature reaches outputs that no input moves: the invariant vectors.
        constant = bias and not lane.signature
        self.bias = nn.Parameter(torch.zeros(sum(self.widths))) if constant else None

    def _dense(self, shares: Sequence[int], inputs: int) -> Tensor:
        """Random weights (outputs, inputs) of variance 1 / (signatures of the block * inputs)."""
        share = _repeated(torch.tensor(shares), self.widths, 0)
        return torch.randn(sum(self.widths), inputs) / (share[:, None] * inputs).sqrt()

    def forward(self, lane: Lane, pooled: Sequence[Sequence[Tensor]]) -> list[tuple[Port, Tensor]]:
        """``lane``: the same signature, with ports in the trees that ``pooled`` comes from."""
        features = [_permute(pooled[port.block][port.node], port.order) for port in lane.inputs]
        y = _linear(_joined(features), self.matrix(), self.bias)
        parts = [y] if len(self.widths) == 1 else y.split(self.widths, -1)
        return [
            (port, _permute(part, _inverse(port.order)))
            for port, part in zip(lane.outputs, parts, strict=True)
        ]

    def matrix(self) -> Tensor:
        """The weights as (outputs, inputs), zero where a pair does not exist."""
        if self.lane.fits is None:
            return self.weight
        zeros = self.weight.new_zeros(self.shape.numel())
        return zeros.index_copy(0, self.where, self.weight).view(self.shape)


def _slot_product(z: Tensor, weight: Tensor) -> Tensor:
    """(slots, ..., channels) times a matrix for each slot."""
    return torch.bmm(z.flatten(1, -2), weight).view(*z.shape[:-1], -1)


def _entries(fits: Sequence[Sequence[bool]], rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Which entries of the flat matrix belong to pairs that fit."""
    mask = _repeated(_repeated(torch.tensor(fits), rows, 0), columns, 1)
    return mask.flatten().nonzero().squeeze(1)


def _repeated(values: Tensor, counts: Sequence[int], dim: int) -> Tensor:
    """Each entry along ``dim`` as often as its block has channels."""
    return values.repeat_interleave(torch.tensor(counts), dim)


def _joined(features: list[Tensor]) -> Tensor:
    return features[0] if len(features) == 1 else torch.cat(features, -1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` in the order in which ``x`` lies in memory: a permuted tensor is not copied."""
    order = sorted(range(x.dim() - 1), key=lambda dim: -x.stride(dim))
    if order == list(range(x.dim() - 1)):
        return F.linear(x, weight, bias)
    return F.linear(x.permute(*order, -1), weight, bias).permute(*_inverse(tuple(order)), -1)


def _permute(value: Tensor, order: Order) -> Tensor:
    last = len(order)
    return value if order == tuple(range(last)) else value.permute(*order, last, last + 1)


def _inverse(order: Order) -> Order:
    return tuple(order.index(i) for i in range(len(order)))
