"""`InvariantPool`: from features on weights to features of the whole network.

    z = concat over blocks and invariants v of  mean_v(x),  and max(x)

The means are all linear invariants (for a tied square: of all entries and of the diagonal); the
maximum is one more, not linear. Fixed axes keep their positions: they are channels here. Zaheer et
al. (2017), arXiv 1703.06114.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.nn.engine.basis import Space
from wsl.nn.engine.layout import BlockLayout
from wsl.nn.engine.maskless import peak
from wsl.nn.engine.plan import compile_plan
from wsl.nn.engine.reduce import pool_all
from wsl.symmetry import PermutationSpec


class BlockPool(nn.Module):
    """All invariants of blocks (*axes, batch, channels) as one tensor (batch, features)."""

    def __init__(self, spaces: Sequence[Space], channels: Sequence[int], *, maximum: bool = True):
        super().__init__()
        # Maps into a scalar have one lane; its inputs are all linear invariants.
        self.plan = compile_plan(tuple(spaces), ((),))
        self.ports = self.plan.lanes[0].inputs
        self.peaks = [i for i, space in enumerate(spaces) if maximum and space]
        self.features = sum(channels[port.block] for port in self.ports) + sum(
            channels[i] for i in self.peaks
        )

    def forward(self, pieces: Sequence[Tensor]) -> Tensor:
        """Concatenate means, then maxima."""
        pooled = pool_all(self.plan.inputs, pieces)
        means = [pooled[port.block][port.node] for port in self.ports]
        return torch.cat(means + [peak(pieces[i].flatten(0, -3)) for i in self.peaks], -1)


class InvariantPool(nn.Module):
    """Tensors (batch, *axes, channels) to (batch, features); ``features`` is the width."""

    equivariance = "invariant"

    def __init__(self, spec: PermutationSpec, channels: int, *, maximum: bool = True):
        super().__init__()
        self.layout, self.channels = BlockLayout(spec), channels
        self.pool = BlockPool(self.layout.spaces, self.layout.widths(channels), maximum=maximum)

    @property
    def features(self) -> int:
        """Number of invariants."""
        return self.pool.features

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """All invariants of every tensor. Raises `SpecError` for tensors that do not fit."""
        self.layout.check(params, self.channels)
        return self.pool(self.layout.split(params))
