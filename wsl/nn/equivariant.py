"""`EquivariantNet`: from weights to weights, for edits, masks and updates.

    f(theta) = theta + s . std . D h,      h = trunk(x),   D one linear map of channels for each block, s learned, 0.01 at first

f(g.theta) = g.f(theta): whatever is done to a unit is done to it wherever it stands. Zhou et al. (2023), Permutation
Equivariant Neural Functionals, arXiv 2302.14040, for editing with a small output scale; the layers are those of `trunk`.
Without ``residual`` the outputs are D h itself: scores for a mask, or the parts of an update rule. Counters (integer
tensors) are handed through by edits. It does not check that an edit is sensible, nor use sign or scale symmetries.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn.layout import Layout, validate
from wsl.nn.normalize import InputNormalizer
from wsl.nn.trunk import Lift, Residual, unpack
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class EquivariantNet(nn.Module):
    """Weights (batch, *shape) to weights of the same names, shapes and types.

    With ``residual=False`` to tensors (batch, *shape, out_channels) of the network's own type, for every tensor.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 3,
        gated: bool = False,
        residual: bool = True,
        out_channels: int = 1,
        scale: float = 0.01,
    ):
        super().__init__()
        if residual and out_channels != 1:
            raise ValueError(f"EquivariantNet: an edit has one channel, not out_channels={out_channels}; set residual=False")
        self.spec, self.layout, self.normalizer = spec, Layout(spec), InputNormalizer(spec)
        self.lift = Lift(self.layout, hidden)
        self.layers = nn.Sequential(*(Residual(self.layout.spaces, hidden, gated=gated) for _ in range(layers)))
        self.lower = nn.ModuleList(nn.Linear(hidden, width) for width in self.layout.widths(out_channels))
        self.scale = nn.Parameter(torch.full((len(spec.axes),), scale)) if residual else None

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        h = unpack(self.layers(self.lift(self.normalizer(params))), self.layout.spaces)
        outputs = self.layout.join([lower(piece) for lower, piece in zip(self.lower, h, strict=True)])
        return outputs if self.scale is None else self._edit(params, outputs, self.scale * self.normalizer.std)

    def _edit(self, params: Mapping[str, Tensor], outputs: Params, sizes: Tensor) -> Params:
        edited = {}
        for size, (name, change) in zip(sizes, outputs.items(), strict=True):
            old = params[name]
            edited[name] = old + (size * change.squeeze(-1)).to(old.dtype) if old.is_floating_point() else old
        return edited
