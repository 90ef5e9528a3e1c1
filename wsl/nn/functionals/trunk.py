"""The trunk that several networks share: lift weights to channels, then residual layers.

    h = lift(x);      h <- h + gelu(H_l(norm(h)))  for l = 1..L

with H_l all equivariant affine maps on the permutable axes. Fixed axes are inputs of the lift, one
linear map for each block, and cost nothing afterwards. Features are packed along their positions,
(positions, batch, channels), so that what acts on channels alone is one call for the whole network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import BlockLayout, BlockLinear, Space


def pack(pieces: Sequence[Tensor]) -> Tensor:
    """Blocks (*axes, batch, channels) along their positions: (positions, batch, channels)."""
    return torch.cat([piece.reshape(-1, *piece.shape[-2:]) for piece in pieces])


def unpack(h: Tensor, spaces: Sequence[Space]) -> list[Tensor]:
    """Inverse of `pack`, as views."""
    shapes = [tuple(axis.size for axis in space) for space in spaces]
    parts = h.split([math.prod(shape) for shape in shapes])
    return [part.view(*shape, *h.shape[1:]) for part, shape in zip(parts, shapes, strict=True)]


class Residual(nn.Module):
    """h + gelu(H(norm(h))) on packed features (positions, batch, channels).

    With ``gated`` it is h + gelu(H) * H', both maps of norm(h).
    """

    def __init__(self, spaces: Sequence[Space], channels: int, *, gated: bool = False):
        super().__init__()
        self.spaces, self.gated, self.norm = spaces, gated, nn.LayerNorm(channels)
        count = len(spaces)
        self.map = BlockLinear(
            spaces,
            spaces,
            in_channels=[channels] * count,
            out_channels=[channels * (1 + gated)] * count,
        )

    def forward(self, h: Tensor) -> Tensor:
        """One layer."""
        y = pack(self.map(unpack(self.norm(h), self.spaces)))
        if not self.gated:
            return h + F.gelu(y)
        gate, value = y.chunk(2, -1)
        return h + F.gelu(gate) * value


def residuals(
    spaces: Sequence[Space], channels: int, layers: int, *, gated: bool = False
) -> nn.Sequential:
    """So many layers, one after another."""
    return nn.Sequential(*(Residual(spaces, channels, gated=gated) for _ in range(layers)))


class Lift(nn.Module):
    """Each block on its own to ``channels`` features per position.

    A weight enters as its value and its signed logarithm; fixed axes are inputs of the linear map.
    """

    def __init__(self, layout: BlockLayout, channels: int):
        super().__init__()
        self.layout = layout
        self.maps = nn.ModuleList(nn.Linear(2 * block.fixed, channels) for block in layout.blocks)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Normalised weights (batch, *shape) to packed features (positions, batch, channels)."""
        pieces = self.layout.split_weights(params)
        lifted = [lift(with_logarithm(x)) for lift, x in zip(self.maps, pieces, strict=True)]
        return pack(lifted)


def with_logarithm(x: Tensor) -> Tensor:
    """Values and signed logarithms on the last axis: weights span orders of magnitude."""
    return torch.cat([x, x.sign() * x.abs().log1p()], -1)
