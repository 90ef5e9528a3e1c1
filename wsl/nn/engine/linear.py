"""`EquivariantLinear`: every affine map of weights to weights that commutes with the permutations
of a specification.

    H(g.x) = g.H(x) for all g;   H = sum over basis elements (see `basis`), run by a plan (see
                                 `plan`)

Zhou et al. (2024), arXiv 2402.05232, for the basis; Navon et al. (2023), arXiv 2301.12780, for the
exact treatment of input and output axes. Complete: the number of weights is the dimension of the
space of such maps, none is redundant. Reductions are means, not sums, so that scale does not depend
on width. One pooling pass per input, one matrix product per signature, one spreading pass per
output: linear in the number of weights, except that scalars meet all scalars. Kernels whose axes
count as permutable are folded (see `fold`). Nothing here is nonlinear, and symmetries other than
permutations are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine.basis import Space
from wsl.nn.engine.encode import FixedAxes, encoded
from wsl.nn.engine.fold import Fold, fold_plan
from wsl.nn.engine.layout import Layout
from wsl.nn.engine.lowrank import Mixtures
from wsl.nn.engine.plan import Lane, Port, Tree, compile_plan
from wsl.params import Params
from wsl.symmetry import PermutationSpec


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
        shares = Counter(port.block for lane in self.plan.lanes for port in lane.outputs)
        lanes = [
            _LaneLinear(lane, in_channels, out_channels, shares=shares, bias=bias)
            for lane in self.plan.lanes
        ]
        self.lanes = nn.ModuleList(lanes)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pool, multiply, spread; the private axes of a block are folded and come back at the
        end.
        """
        pieces, folded = list(inputs), [enter(fold, inputs[fold.block]) for fold in self.folds]
        for fold, x in zip(self.folds, folded, strict=True):
            pieces[fold.block] = x.sum(0) * (1 / fold.slots)
        outputs = self._core(pieces)
        for fold, x in zip(self.folds, folded, strict=True):
            outputs[fold.block] = leave(fold, self._private(fold, x), outputs[fold.block])
        return outputs

    def _core(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        pooled = [pool(tree, x) for tree, x in zip(self.core.inputs, pieces, strict=True)]
        sums: list[list[Tensor | None]] = [[None] * len(tree.steps) for tree in self.core.outputs]
        for place, lane in zip(self.places, self.core.lanes, strict=True):
            for port, y in cast("_LaneLinear", self.lanes[place])(lane, pooled):
                sums[port.block][port.node] = y
        return [spread(tree, values) for tree, values in zip(self.core.outputs, sums, strict=True)]

    def _private(self, fold: Fold, x: Tensor) -> Tensor:
        """The lanes that keep private axes, with a weight matrix for each coordinate: (slots,
        *rest, batch, channels).
        """
        lanes = [cast("_LaneLinear", self.lanes[place]) for row in fold.lanes for place in row]
        stack = torch.stack([lane.weight for lane in lanes]).view(
            len(fold.lanes), len(fold.lanes[0]), -1
        )
        weights = torch.matmul(x.new_tensor(fold.mix), stack).view(
            len(fold.lanes), fold.slots, *lanes[0].shape
        )
        pooled = pool(fold.tree, reflect(fold, x))
        sums: list[Tensor | None] = [None] * len(fold.tree.steps)
        for node, weight in zip(fold.nodes, weights.transpose(-1, -2), strict=True):
            z = pooled[node]
            sums[node] = torch.bmm(z.flatten(1, -2), weight).view(*z.shape[:-1], -1)
        return spread(fold.tree, sums)


class _LaneLinear(nn.Module):
    """The matrix product of one signature."""

    def __init__(
        self,
        lane: Lane,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        shares: Mapping[int, int],
        bias: bool,
    ):
        super().__init__()
        self.lane = lane
        self.widths = [out_channels[port.block] for port in lane.outputs]
        columns = [in_channels[port.block] for port in lane.inputs]
        share = torch.tensor([shares[port.block] for port in lane.outputs]).repeat_interleave(
            torch.tensor(self.widths)
        )
        dense = torch.randn(sum(self.widths), sum(columns)) / (share[:, None] * sum(columns)).sqrt()
        self.shape = dense.shape
        self.where: Tensor
        if lane.fits is not None:
            mask = torch.tensor(lane.fits).repeat_interleave(torch.tensor(self.widths), 0)
            mask = mask.repeat_interleave(torch.tensor(columns), 1).flatten()
            self.register_buffer("where", mask.nonzero().squeeze(1), persistent=False)
            dense = dense.flatten()[mask]
        self.weight = nn.Parameter(dense)
        self.bias = (
            nn.Parameter(torch.zeros(sum(self.widths))) if bias and not lane.signature else None
        )

    def forward(self, lane: Lane, pooled: Sequence[Sequence[Tensor]]) -> list[tuple[Port, Tensor]]:
        """``lane``: the same signature, with ports in the trees that ``pooled`` comes from."""
        features = [_permute(pooled[port.block][port.node], port.order) for port in lane.inputs]
        y = _linear(
            features[0] if len(features) == 1 else torch.cat(features, -1), self.matrix(), self.bias
        )
        parts = [y] if len(self.widths) == 1 else y.split(self.widths, -1)
        ports = lane.outputs
        return [
            (port, _permute(part, _inverse(port.order)))
            for port, part in zip(ports, parts, strict=True)
        ]

    def matrix(self) -> Tensor:
        """The weights as (outputs, inputs), zero where a pair does not exist."""
        if self.lane.fits is None:
            return self.weight
        return (
            self.weight.new_zeros(self.shape.numel())
            .index_copy(0, self.where, self.weight)
            .view(self.shape)
        )


class EquivariantLinear(nn.Module):
    """All equivariant affine maps of a specification: tensors (batch, *axes, in_channels) to
    (batch, *axes, out_channels).

    ``fixed="exact"``: fixed axes are part of the basis, each of their positions has weights of its
    own; the number of weights grows with the square of the fixed sizes. ``fixed="encoded"``: fixed
    axes are treated as permutable, and a learned positional table per axis is added to the input to
    tell positions apart (see `encode.encoded` for which axes share a table); the map is then affine
    and still equivariant, but not all such maps are reached. ``rank=r`` with ``"exact"`` shows a
    block of more than r fixed positions through r mixtures of them, on both sides (see `lowrank`):
    the number of weights grows linearly with the fixed sizes, and again not all maps are reached.
    Raises `SpecError` in ``forward`` for tensors that do not fit.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        in_channels: int,
        out_channels: int,
        *,
        fixed: str = "exact",
        rank: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        if fixed not in ("exact", "encoded"):
            raise ValueError(f"fixed={fixed!r}: it must be 'exact' or 'encoded'")
        if rank is not None and (fixed != "exact" or rank < 1):
            raise ValueError(
                f"rank={rank} with fixed={fixed!r}: a rank is at least 1 and belongs to "
                "fixed='exact'"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.positions = FixedAxes(spec, in_channels) if fixed == "encoded" else None
        self.layout = Layout(encoded(spec) if fixed == "encoded" else spec)
        narrow = [min(block.fixed, rank or block.fixed) for block in self.layout.blocks]
        widths_in, widths_out = (
            [n * channels for n in narrow] for channels in (in_channels, out_channels)
        )
        spaces = self.layout.spaces
        self.map = BlockLinear(
            spaces, spaces, in_channels=widths_in, out_channels=widths_out, bias=bias
        )
        self.enter = (
            Mixtures(self.layout.widths(in_channels), widths_in, bias=False) if rank else None
        )
        self.leave = (
            Mixtures(widths_out, self.layout.widths(out_channels), bias=bias) if rank else None
        )

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Apply the map."""
        self.layout.check(params, self.in_channels)
        return self.layout.join(self.on_blocks(self.layout.split(params)))

    def on_blocks(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """The same on the blocks of ``layout``, without cutting and joining."""
        pieces = pieces if self.positions is None else self.positions.add(pieces)
        mapped = self.map(pieces if self.enter is None else self.enter(pieces))
        return mapped if self.leave is None else self.leave(mapped)

    def extra_repr(self) -> str:
        """Channels, and numbers of weights and biases."""
        weights = sum(p.numel() for p in self.parameters())
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, signatures={len(self.map.lanes)}, parameters={weights}"


def pool(tree: Tree, x: Tensor) -> list[Tensor]:
    """All reductions of a block (*axes, batch, channels), each from the smallest that contains
    it.
    """
    values = [x]
    for step in tree.steps[1:]:
        source = values[step.source]
        if len(step.dims) == 1:
            # not mean: the gradient of a sum is a view, that of a mean is as large as the source
            values.append(source.sum(step.dims[0]) * (1 / source.shape[step.dims[0]]))
        else:
            values.append(source.diagonal(0, *step.dims).movedim(-1, step.dims[0]))
    return values


def spread(tree: Tree, values: list[Tensor | None]) -> Tensor:
    """The transpose of `pool`: broadcast where it averaged, embed on the diagonal where it read
    one, and sum.
    """
    fresh = [False] * len(values)
    for node in range(len(values) - 1, 0, -1):
        value, (source, dims) = values[node], tree.steps[node]
        if value is None:
            continue
        if len(dims) == 1:
            value = value.unsqueeze(dims[0])
        else:
            value = torch.diag_embed(
                _full(value, tree.shapes[node]).movedim(dims[0], -1), dim1=dims[0], dim2=dims[1]
            )
        mine = values[source]
        if mine is None:
            values[source] = value
        else:
            values[source] = (
                mine.add_(value) if fresh[source] else _full(mine, tree.shapes[source]) + value
            )
            fresh[source] = True
    if values[0] is None:
        raise ValueError("a block has no equivariant map into it; give at least one input block")
    return _full(values[0], tree.shapes[0])


def enter(fold: Fold, x: Tensor) -> Tensor:
    """A block (*axes, batch, channels) with its private axes in front, as one: (slots, *rest,
    batch, channels).
    """
    last = len(fold.private) + len(fold.rest)
    x = x.permute(*fold.private, *fold.rest, last, last + 1)
    return x.reshape(fold.slots, *x.shape[len(fold.private) :])


def reflect(fold: Fold, x: Tensor) -> Tensor:
    """Change of basis on the private axes."""
    return torch.mm(x.new_tensor(fold.basis), x.flatten(1)).view_as(x)


def leave(fold: Fold, own: Tensor, y: Tensor) -> Tensor:
    """Back to (*axes, batch, channels), with ``y`` (*rest, batch, channels) added everywhere."""
    last = len(fold.private) + len(fold.rest)
    whole = torch.addmm(y.reshape(1, -1), own.new_tensor(fold.basis), own.flatten(1))
    back = _inverse((*fold.private, *fold.rest))
    return whole.view(*fold.sizes, *y.shape).permute(*back, last, last + 1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` in the order in which ``x`` lies in memory, so that a permuted tensor is not
    copied.
    """
    order = sorted(range(x.dim() - 1), key=lambda dim: -x.stride(dim))
    if order == list(range(x.dim() - 1)):
        return F.linear(x, weight, bias)
    return F.linear(x.permute(*order, -1), weight, bias).permute(*_inverse(tuple(order)), -1)


def _full(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return value.expand(*shape, *value.shape[-2:])


def _permute(value: Tensor, order: tuple[int, ...]) -> Tensor:
    last = len(order)
    return value if order == tuple(range(last)) else value.permute(*order, last, last + 1)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(i) for i in range(len(order)))
