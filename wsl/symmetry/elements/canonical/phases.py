"""`canonical_phases`: one representative of the phase shifts of sine units.

    sin(w (z + k pi / w)) = (-1)^k sin(w z)
    (b_i, W_{i+1})  ->  (b_i - k pi / w, W_{i+1} (-1)^k),    k = round(b_i w / pi)

leaves f unchanged and brings every bias into [-pi / 2w, pi / 2w]; w is the factor between bias and
sine, omega_0 for sin(omega_0 (W x + b)), 1 where omega_0 has been absorbed into the weights.
Constant on orbits but for a bias that lies exactly half way, idempotent, equivariant to
permutations and signs; where k jumps the result does. Shifts by whole turns alone (2 pi, without
the sign) would leave two representatives. Nothing here runs the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.canonical.declared import with_units
from wsl.symmetry.elements.canonical.unit_axis import UnitAxis
from wsl.symmetry.spec import PermutationSpec


def canonical_phases(
    spec: PermutationSpec, params: Mapping[str, Tensor], omega: Mapping[str, float] | None = None
) -> Params:
    """The same function, with biases within a quarter turn of zero; tensors (batch, *shape).

    ``omega`` maps the groups to treat to their factor w, where the specification has no line for
    their phase (see `with_units`); by default all groups with such a line. Raises `SpecError` for
    groups that do not exist or have no bias.
    """
    return CanonicalPhases(spec, omega)(params)


class CanonicalPhases:
    """The same for many calls: what the specification says is worked out once."""

    def __init__(self, spec: PermutationSpec, omega: Mapping[str, float] | None = None):
        lines = [unit for unit in with_units(spec, phases=omega).units if unit.kind == "phase"]
        self.phases = [
            (math.pi / (unit.omega or 1.0), [UnitAxis.of(spec, place) for place in unit.places])
            for unit in lines
            if omega is None or unit.group in omega
        ]

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Weights (batch, *shape)."""
        moved = dict(params)
        for turn, axes in self.phases:
            # Places that shift come first; the first of them is the bias that k is read from.
            k = (axes[0].rows(moved[axes[0].place.tensor])[..., 0] / turn).round()
            for axis in axes:
                name = axis.place.tensor
                if axis.place.exponent > 0:
                    moved[name] = moved[name] - axis.spread(k * turn, elsewhere=0.0)
                else:
                    moved[name] = moved[name] * axis.spread(_parity(k), elsewhere=1.0)
        return moved


def _parity(k: Tensor) -> Tensor:
    """(-1)^k."""
    return 1 - 2 * k.remainder(2)
