"""`UnitNormalizer`: weights on a common scale that keeps the signs of units and forgets their positive scales.

    x = canonical_scales(theta) / r_t;     a tensor on which no sign or scale acts is standardised as in `InputNormalizer`

r_t is one number for each tensor of the population, the rms of canonical_scales(weights that are the raw rms everywhere): a mean
must not be subtracted where signs flip. Before `fit` all r are those of weights with rms 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn.normalize import InputNormalizer
from wsl.nn.scales import canonical_scales
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class UnitNormalizer(nn.Module):
    """Casts tensors to the type of its buffers, makes scales canonical, and divides; ``spec`` names signs and scales."""

    equivariance = "equivariant"

    def __init__(self, spec: PermutationSpec):
        super().__init__()
        self.spec, self.plain = spec, InputNormalizer(spec.without_units())
        self.signed = {place.tensor for unit in spec.units if unit.kind == "sign" for place in unit.places}
        self.moved = self.signed | {place.tensor for unit in spec.units if unit.kind == "scale" for place in unit.places}
        self.fit({name: (0.0, 1.0) for name in spec.axes})

    def fit(self, statistics: Mapping[str, tuple[Tensor | float, Tensor | float]]) -> UnitNormalizer:
        """Take (mean, std) of every tensor, as `Zoo.statistics` gives them; returns itself. ValueError if one is missing."""
        self.plain.fit(statistics)
        sizes = {name: float(sum(float(v) ** 2 for v in statistics[name]) ** 0.5) for name in self.spec.axes}
        typical = {name: torch.full((1, *shape), sizes[name], dtype=torch.float64) for name, shape in self.spec.shapes.items()}
        typical = canonical_scales(self.spec, typical)
        for i, name in enumerate(self.plain.names):
            if name in self.moved:
                self.plain.mean[i] = 0.0
                self.plain.std[i] = typical[name].square().mean().sqrt().clamp(min=1e-12)
        return self

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Tensors (batch, *shape) in the order of the specification."""
        cast = {name: params[name].to(self.plain.mean.dtype) for name in self.spec.axes}
        return self.plain(canonical_scales(self.spec, cast))
