"""`InputNormalizer`: weights on a common scale, one mean and one deviation for each tensor.

    x = (theta - mean_t) / std_t

with mean and std of tensor t over a whole zoo, positions and members together. One pair per tensor
keeps every permutation symmetry and, since it is the same for all members, the differences of scale
between them. A constant tensor (a counter) is only centred. Before `fit` the map is the identity,
up to the type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry import (
    CanonicalPhases,
    CanonicalScales,
    PermutationSpec,
    bias_of,
    canonical_signs,
    typical_sizes,
    with_units,
)


class InputNormalizer(nn.Module):
    """Centres and scales each tensor and casts it, integers too, to the type of its own buffers.

    ``odd`` names groups of units with an odd activation (sin, tanh): their signs are made canonical
    first (see `canonical_signs`). ``positive`` names groups with a positively homogeneous
    activation (relu), ``phases`` maps groups of sines to their factor omega_0: scales and phases
    are made canonical too (see `CanonicalScales`, `CanonicalPhases`). Of lines of the specification
    only those of the groups named are used.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        odd: Sequence[str] = (),
        positive: Sequence[str] = (),
        phases: Mapping[str, float] | None = None,
    ):
        super().__init__()
        self.spec, self.names = with_units(spec, positive=positive, phases=phases), list(spec.axes)
        self.odd, self.positive = tuple(odd), tuple(positive)
        self.scales = CanonicalScales(self.spec, self.positive)
        self.phases = CanonicalPhases(self.spec, phases or {})
        for group in self.odd:
            bias_of(spec, group)  # raises where a group has none, here and not in the first batch
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    def fit(
        self, statistics: Mapping[str, tuple[Tensor | float, Tensor | float]]
    ) -> InputNormalizer:
        """Take (mean, std) of every tensor, as `Zoo.statistics` gives them; returns itself.

        Raises ValueError if one is missing.
        """
        pairs = self._canonical(self._pairs(statistics))
        self.mean.copy_(pairs[:, 0])
        self.std.copy_(torch.where(pairs[:, 1] > 1e-12, pairs[:, 1], 1.0))
        return self

    def _canonical(self, pairs: Tensor) -> Tensor:
        """Means and deviations to expect once scales and signs are canonical."""
        for i, size in self._after_scales(pairs.square().sum(1).sqrt().tolist()):
            pairs[i] = torch.tensor([0.0, size])
        flipped = {o.tensor for group in self.odd for o in self.spec.occurrences(group)}
        for i, name in enumerate(self.names):
            if name in flipped:
                pairs[i] = self._after_signs(name, float(pairs[i].square().sum().sqrt()))
        return pairs

    def _pairs(self, statistics: Mapping[str, tuple[Tensor | float, Tensor | float]]) -> Tensor:
        """Mean and deviation of every tensor, float64; ValueError if one is missing or infinite."""
        if missing := [name for name in self.names if name not in statistics]:
            raise ValueError(
                f"statistics lack {missing[0]!r}; give (mean, std) for every tensor of the "
                "specification"
            )
        rows = [[float(value) for value in statistics[name]] for name in self.names]
        pairs = torch.tensor(rows, dtype=torch.float64)
        if not pairs.isfinite().all():
            name = self.names[int((~pairs.isfinite()).any(1).nonzero()[0])]
            raise ValueError(f"statistics of {name!r} are not finite; remove members that diverged")
        return pairs

    def _after_scales(self, sizes: list[float]) -> Iterator[tuple[int, float]]:
        """Which tensors canonical scales change, and the deviation to expect there."""
        lines = [
            unit for unit in self.spec.units if unit.kind == "scale" and unit.group in self.positive
        ]
        moved = {place.tensor for unit in lines for place in unit.places}
        typical = typical_sizes(self.spec, dict(zip(self.names, sizes, strict=True)), self.positive)
        return ((i, typical[name]) for i, name in enumerate(self.names) if name in moved)

    def _after_signs(self, name: str, rms: float) -> Tensor:
        """Mean and deviation once signs are canonical.

        A bias becomes |b|, taken between half-normal (0.80 rms) and uniform (0.87 rms).
        """
        mean = 0.83 * rms if name in [bias_of(self.spec, group) for group in self.odd] else 0.0
        return torch.tensor([mean, (rms**2 - mean**2) ** 0.5], dtype=torch.float64)

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """(theta - mean) / std, tensor by tensor."""
        scale, shift = 1 / self.std, -self.mean / self.std
        cast = {name: params[name].to(self.mean.dtype) for name in self.names}
        cast = canonical_signs(self.spec, self.scales(self.phases(cast)), self.odd)
        return {
            name: torch.addcmul(shift[i], cast[name], scale[i]) for i, name in enumerate(self.names)
        }
