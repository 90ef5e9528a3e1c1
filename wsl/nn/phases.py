"""`canonical_phases`: one representative of the phase shifts of sine units.

    sin(w (z + k pi / w)) = (-1)^k sin(w z):     (b_i, W_{i+1}) -> (b_i - k pi / w, W_{i+1} (-1)^k),     k = round(b_i w / pi)

leaves f unchanged and brings every bias into [-pi / 2w, pi / 2w]; w is the factor between bias and sine, omega_0 for
sin(omega_0 (W x + b)), 1 where omega_0 has been absorbed into the weights. Constant on orbits but for a bias that lies exactly
half way, idempotent, equivariant to permutations and signs; where k jumps the result does. Shifts by whole turns alone (2 pi,
without the sign) would leave two representatives. Weights only: nothing here runs the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.nn.charges import with_units
from wsl.nn.unit_values import spread, unit_rows
from wsl.params import Params
from wsl.symmetry import PermutationSpec


def canonical_phases(spec: PermutationSpec, params: Mapping[str, Tensor], omega: Mapping[str, float] | None = None) -> Params:
    """Weights (batch, *shape) with the same function and biases within a quarter turn of zero.

    ``omega`` maps the groups to treat to their factor w, where the specification has no line for their phase (see `charges`);
    by default all groups with such a line. Raises `SpecError` for groups that do not exist or have no bias.
    """
    spec, moved = with_units(spec, phases=omega or {}), dict(params)
    for unit in spec.units:
        if unit.kind == "phase" and (omega is None or unit.group in omega):
            shifts = [place for place in unit.places if place.exponent > 0]
            turn = math.pi / (unit.omega or 1.0)
            k = (unit_rows(spec, moved, shifts[0])[..., 0] / turn).round()
            for place in shifts:
                moved[place.tensor] = moved[place.tensor] - spread(spec, place, k * turn, elsewhere=0.0)
            for place in unit.places[len(shifts) :]:
                moved[place.tensor] = moved[place.tensor] * spread(spec, place, 1 - 2 * k.remainder(2), elsewhere=1.0)
    return moved

