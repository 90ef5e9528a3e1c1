"""`EquivariantNet`: from weights to weights, for edits, masks and updates.

    h = trunk(x);      f(theta) = theta + s . std . D h

with D one linear map of channels for each block, the rest as in `edit`. f(g.theta) = g.f(theta):
whatever is done to a unit is done to it wherever it stands. Zhou et al. (2023), Permutation
Equivariant Neural Functionals, arXiv 2302.14040, for editing; the layers are those of
`functionals.trunk`, or, with ``heads``, the attention of `nft`. Without ``residual`` the outputs
are D h itself: scores for a mask, or the parts of an update rule. Signs are followed for the groups
named in ``odd``; scales are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from wsl.nn.editors.edit import Edit
from wsl.nn.engine import BlockLayout, validate
from wsl.nn.functional import Functional
from wsl.nn.functionals import Lift, attention_blocks, residuals, unpack
from wsl.nn.inputs import InputNormalizer
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class EquivariantNet(Functional):
    """Weights (batch, *shape) to weights of the same names, shapes and types.

    With ``residual=False`` to tensors (batch, *shape, out_channels) of the network's own type, for
    every tensor. ``heads`` > 0 takes layers of attention instead of the maps of `trunk`; ``gated``
    is of those alone.
    """

    equivariance = "equivariant"
    gives_weights = True

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 3,
        gated: bool = False,
        heads: int = 0,
        residual: bool = True,
        out_channels: int = 1,
        scale: float = 0.01,
        odd: Sequence[str] = (),
    ):
        super().__init__()
        _check_outputs(out_channels, residual=residual, odd=odd)
        if heads and (gated or hidden % heads):
            raise ValueError(
                f"EquivariantNet: heads={heads} must divide hidden={hidden}, and goes without "
                "gated=True"
            )
        self.spec, self.layout = spec, BlockLayout(spec)
        self.normalizer = InputNormalizer(spec, odd=odd)
        self.lift, spaces = Lift(self.layout, hidden), self.layout.spaces
        self.layers = (
            attention_blocks(spaces, hidden, layers, heads=heads)
            if heads
            else residuals(spaces, hidden, layers, gated=gated)
        )
        widths = self.layout.widths(out_channels)
        self.lower = nn.ModuleList(nn.Linear(hidden, width) for width in widths)
        self.edit = Edit(spec, scale) if residual else None

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        h = unpack(self.layers(self.lift(self.normalizer(params))), self.layout.spaces)
        outputs = self.layout.join(
            [lower(piece) for lower, piece in zip(self.lower, h, strict=True)]
        )
        if self.edit is None:
            return outputs
        return self.edit(
            self.normalizer, params, {name: t.squeeze(-1) for name, t in outputs.items()}
        )


def _check_outputs(out_channels: int, *, residual: bool, odd: Sequence[str]) -> None:
    if residual and out_channels != 1:
        raise ValueError(
            f"EquivariantNet: an edit has one channel, not out_channels={out_channels}; set "
            "residual=False"
        )
    if odd and not residual:
        raise ValueError(
            f"EquivariantNet: odd={list(odd)} with residual=False: only an edit knows what signs "
            "do to it; leave odd out, or residual=True"
        )
