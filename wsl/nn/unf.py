"""`UNF`: universal neural functional, a network on the weights of any architecture.

    h = lift(x);   h <- h + gelu(H_l(norm(h)))  for l = 1..L;   f(theta) = MLP(pool(h), statistics(x))

with H_l all equivariant affine maps on the permutable axes and ``hidden`` channels. Zhou et al. (2024), Universal Neural
Functionals, arXiv 2402.05232. Fixed axes (kernels, inputs, outputs, gates) are lifted into channels by the first layer, so
that they are distinguished exactly and cost nothing afterwards; this is not the paper's choice, which averages over them.
Each weight enters as its value and its signed logarithm, because trained weights span orders of magnitude; statistics of
each tensor (Unterthiner et al. 2020, arXiv 2002.11448) reach the head directly, so nothing about scale is lost.
Invariant to permutations by construction, to sign flips of the groups named in ``odd``, and to nothing else: scale and
phase symmetries are not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.basis import Space
from wsl.nn.head import head
from wsl.nn.layout import Layout, validate
from wsl.nn.linear import BlockLinear
from wsl.nn.normalize import InputNormalizer
from wsl.nn.pool import BlockPool
from wsl.nn.statnet import STATISTICS, weight_statistics
from wsl.symmetry import PermutationSpec


def pack(pieces: Sequence[Tensor]) -> Tensor:
    """Blocks (*axes, batch, channels) along their positions: (positions, batch, channels)."""
    return torch.cat([piece.reshape(-1, *piece.shape[-2:]) for piece in pieces])


def unpack(h: Tensor, spaces: Sequence[Space]) -> list[Tensor]:
    """Inverse of `pack`, as views."""
    shapes = [tuple(axis.size for axis in space) for space in spaces]
    parts = h.split([math.prod(shape) for shape in shapes])
    return [part.view(*shape, *h.shape[1:]) for part, shape in zip(parts, shapes, strict=True)]


class Residual(nn.Module):
    """h + gelu(H(norm(h))) on packed features (positions, batch, channels); ``gated``: h + gelu(H) * H'."""

    def __init__(self, spaces: Sequence[Space], channels: int, *, gated: bool = False):
        super().__init__()
        self.spaces, self.gated, self.norm = spaces, gated, nn.LayerNorm(channels)
        count = len(spaces)
        self.map = BlockLinear(spaces, spaces, in_channels=[channels] * count, out_channels=[channels * (1 + gated)] * count)

    def forward(self, h: Tensor) -> Tensor:
        """One layer."""
        y = pack(self.map(unpack(self.norm(h), self.spaces)))
        if not self.gated:
            return h + F.gelu(y)
        gate, value = y.chunk(2, -1)
        return h + F.gelu(gate) * value


class Lift(nn.Module):
    """Each block on its own to ``channels`` features per position; fixed axes are inputs of the linear map."""

    def __init__(self, layout: Layout, channels: int):
        super().__init__()
        self.layout = layout
        self.maps = nn.ModuleList(nn.Linear(2 * block.fixed, channels) for block in layout.blocks)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Normalised weights (batch, *shape) to packed features (positions, batch, channels)."""
        pieces = self.layout.split({name: t.unsqueeze(-1) for name, t in params.items()})
        lifted = [lift(torch.cat([x, x.sign() * x.abs().log1p()], -1)) for lift, x in zip(self.maps, pieces, strict=True)]
        return pack(lifted)


class UNF(nn.Module):
    """Weights (batch, *shape) to (batch, out_features).

    ``hidden`` channels on every weight, ``layers`` equivariant maps, a head with ``head_hidden`` units and ``dropout``.
    ``normalize=False`` leaves out the normaliser, for weights that are already standardised. ``odd`` names groups of units
    with an odd activation, whose signs are made canonical first: the network is then invariant to sign flips too.
    ``gated`` multiplies two equivariant maps in each layer: a weight meets the features of its units, and the pooling that
    follows is a matrix-vector product. About twice the cost.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 3,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        normalize: bool = True,
        gated: bool = False,
    ):
        super().__init__()
        if odd and not normalize:
            raise ValueError("UNF: odd groups are made canonical by the normaliser; leave normalize=True")
        self.normalizer = InputNormalizer(spec, odd=odd) if normalize else None
        self.spec, layout = spec, Layout(spec)
        self.spaces = layout.spaces
        self.lift = Lift(layout, hidden)
        self.layers = nn.Sequential(*(Residual(self.spaces, hidden, gated=gated) for _ in range(layers)))
        self.pool = BlockPool(self.spaces, [hidden] * len(self.spaces))
        width = self.pool.features + STATISTICS * len(spec.axes)
        self.head = head(width, head_hidden, head_hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        x = self.normalizer(params) if self.normalizer is not None else params
        h = self.layers(self.lift(x))
        return self.head(torch.cat([self.pool(unpack(h, self.spaces)), weight_statistics(x)], 1))
