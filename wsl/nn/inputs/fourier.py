"""What a weight is to the first layer: its value, Fourier features of it, and where it stands.

    (x, cos 2 pi B x, sin 2 pi B x, p(t), p(i_1), p(i_2), ...),      B ~ N(0, s^2)
    p(u) = (u, cos pi k u, sin pi k u : k = 1..K)

with t the place of the tensor in its list and i_1, i_2, ... the places on its fixed axes, all in
[-1, 1]. Gaussian Fourier features: Tancik et al. (2020), arXiv 2006.10739; positions: Zhou et al.
(2023), Permutation Equivariant Neural Functionals, arXiv 2302.14040, appendix. Places on permutable
axes are never told, so the map is equivariant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn.engine import BlockLayout, TensorBlock, encoded
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class WeightFeatures(nn.Module):
    """Weights (batch, *axes) to features (batch, *axes, channels).

    ``fourier`` frequencies of deviation ``scale`` on the value, ``positions`` frequencies on the
    places; 0 leaves them out.
    """

    equivariance = "equivariant"

    def __init__(
        self, spec: PermutationSpec, *, fourier: int = 0, scale: float = 1.0, positions: int = 0
    ):
        super().__init__()
        self.layout = BlockLayout(encoded(spec))
        self.fixed = self.layout.spec.groups.keys() - spec.groups.keys()
        self.tensors = {name: i for i, name in enumerate(spec.axes)}
        self.positions, self.waves = positions, 1 + 2 * positions
        self.slots = max(map(len, map(self._fixed_dims, self.layout.blocks)))
        self.frequencies: Tensor
        self.register_buffer("frequencies", scale * torch.randn(fourier))
        self.channels = 1 + 2 * fourier + self.waves * (1 + self.slots) * (positions > 0)

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Append the features on a new last axis."""
        pieces = zip(self.layout.split_weights(params), self.layout.blocks, strict=True)
        return self.layout.join([self._features(x, block) for x, block in pieces])

    def _features(self, x: Tensor, block: TensorBlock) -> Tensor:
        angle = 2 * math.pi * x * self.frequencies
        places = self._places(x, block) if self.positions else []
        return torch.cat([x, angle.cos(), angle.sin(), *places], -1)

    def _places(self, x: Tensor, block: TensorBlock) -> list[Tensor]:
        """p of the tensor and of each fixed axis, zeros for the axes that others have more."""
        tensor = _line(len(self.tensors), x)[self.tensors[block.piece.tensor]]
        places = [tensor, *(_along(x, dim) for dim in self._fixed_dims(block))]
        found = [positional_waves(u, self.positions).expand(*x.shape[:-1], -1) for u in places]
        missing = 1 + self.slots - len(places)
        return [*found, x.new_zeros(*x.shape[:-1], missing * self.waves)]

    def _fixed_dims(self, block: TensorBlock) -> list[int]:
        return [dim for dim, axis in enumerate(block.space) if axis.group in self.fixed]


def _along(x: Tensor, dim: int) -> Tensor:
    """Places on one axis of a block (*axes, batch, channels), broadcast along the axes after it."""
    return _line(x.shape[dim], x).view(-1, *[1] * (x.dim() - dim - 2))


def _line(size: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype)


def positional_waves(u: Tensor, frequencies: int) -> Tensor:
    """(u, cos pi k u, sin pi k u) for k = 1..frequencies on a new last axis."""
    steps = torch.arange(1, frequencies + 1, device=u.device, dtype=u.dtype)
    angle = math.pi * u.unsqueeze(-1) * steps
    return torch.cat([u.unsqueeze(-1), angle.cos(), angle.sin()], -1)
