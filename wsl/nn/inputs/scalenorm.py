"""`UnitNormalizer`: weights on a common scale, up to positive scales and phases of units.

    x = canonical(theta) / r_t

A tensor on which nothing of this acts is standardised as in `InputNormalizer`. r_t is one number
for each tensor of the population, its typical rms once scales are canonical. No mean is subtracted
where signs flip. Before `fit` the r are those of weights with rms 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wsl.nn.inputs.normalize import InputNormalizer
from wsl.params import Params
from wsl.symmetry import CanonicalPhases, CanonicalScales, PermutationSpec, typical_sizes


class UnitNormalizer(nn.Module):
    """Casts tensors to the type of its buffers, makes phases and scales canonical, divides.

    The unit lines of ``spec`` name the symmetries.
    """

    equivariance = "equivariant"

    def __init__(self, spec: PermutationSpec):
        super().__init__()
        self.spec, self.plain = spec, InputNormalizer(spec.without_units())
        self.phases, self.scales = CanonicalPhases(spec), CanonicalScales(spec)
        self.signed = {
            place.tensor for unit in spec.units if unit.kind == "sign" for place in unit.places
        }
        self.moved = {
            place.tensor for unit in spec.units if not unit.mixes for place in unit.places
        }
        self.fit(dict.fromkeys(spec.axes, (0.0, 1.0)))

    def fit(
        self, statistics: Mapping[str, tuple[Tensor | float, Tensor | float]]
    ) -> UnitNormalizer:
        """Take (mean, std) of every tensor, as `Zoo.statistics` gives them; returns itself.

        Raises ValueError if one is missing.
        """
        self.plain.fit(statistics)
        sizes = {
            name: float(sum(float(v) ** 2 for v in statistics[name]) ** 0.5)
            for name in self.spec.axes
        }
        for name, size in typical_sizes(self.spec, sizes).items():
            if name in self.moved:
                self.plain.mean[self.plain.names.index(name)] = 0.0
                self.plain.std[self.plain.names.index(name)] = size if size > 1e-12 else 1.0
        return self

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Tensors (batch, *shape) in the order of the specification."""
        cast = {name: params[name].to(self.plain.mean.dtype) for name in self.spec.axes}
        return self.plain(self.scales(self.phases(cast)))
