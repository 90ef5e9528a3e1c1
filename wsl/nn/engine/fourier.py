"""What a weight is to the first layer: its value, Fourier features of it, and where it stands.

    (x, cos 2 pi B x, sin 2 pi B x, p(t), p(i_1), p(i_2), ...),   B ~ N(0, s^2),   p(u) = (u, cos pi
        k u, sin pi k u : k = 1..K)

with t the place of the tensor in its list and i_1, i_2, ... the places on its fixed axes, all in
[-1, 1]. Gaussian Fourier
features: Tancik et al. (2020), arXiv 2006.10739; positions: Zhou et al. (2023), Permutation
Equivariant Neural Functionals, arXiv 2302.14040, appendix. Places on permutable axes are never
told, so the map is equivariant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn.engine.basis import Block
from wsl.nn.engine.encode import encoded
from wsl.nn.engine.layout import Layout
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
        self.layout = Layout(encoded(spec))
        self.fixed = frozenset(self.layout.spec.groups) - frozenset(spec.groups)
        self.tensors = list(spec.axes)
        self.positions = positions
        self.slots = max(len(self._fixed_dims(block)) for block in self.layout.blocks)
        self.frequencies: Tensor
        self.register_buffer("frequencies", scale * torch.randn(fourier))
        self.channels = (
            1 + 2 * fourier + ((1 + 2 * positions) * (1 + self.slots) if positions else 0)
        )

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Append the features on a new last axis."""
        pieces = self.layout.split({name: tensor.unsqueeze(-1) for name, tensor in params.items()})
        return self.layout.join(
            [self._features(x, block) for x, block in zip(pieces, self.layout.blocks, strict=True)]
        )

    def _features(self, x: Tensor, block: Block) -> Tensor:
        angle = 2 * math.pi * x * self.frequencies
        places = self._places(x, block) if self.positions else []
        return torch.cat([x, angle.cos(), angle.sin(), *places], -1)

    def _places(self, x: Tensor, block: Block) -> list[Tensor]:
        dims = self._fixed_dims(block)
        tensor = torch.linspace(-1, 1, len(self.tensors), device=x.device, dtype=x.dtype)[
            self.tensors.index(block.tensor)
        ]
        found = [self._wave(tensor).expand(*x.shape[:-1], -1)]
        for dim in dims:
            index = torch.linspace(-1, 1, x.shape[dim], device=x.device, dtype=x.dtype)
            wave = self._wave(index.view(-1, *[1] * (x.dim() - dim - 2)))
            found.append(wave.expand(*x.shape[:-1], -1))
        missing = self.slots - len(dims)
        return [*found, x.new_zeros(*x.shape[:-1], missing * (1 + 2 * self.positions))]

    def _wave(self, u: Tensor) -> Tensor:
        return positional_waves(u, self.positions)

    def _fixed_dims(self, block: Block) -> list[int]:
        return [dim for dim, axis in enumerate(block.space) if axis.group in self.fixed]


def positional_waves(u: Tensor, frequencies: int) -> Tensor:
    """(u, cos pi k u, sin pi k u) for k = 1..frequencies on a new last axis."""
    angle = (
        math.pi * u.unsqueeze(-1) * torch.arange(1, frequencies + 1, device=u.device, dtype=u.dtype)
    )
    return torch.cat([u.unsqueeze(-1), angle.cos(), angle.sin()], -1)
