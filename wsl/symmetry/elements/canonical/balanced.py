"""`balanced_scales`: of the positive scales of units, the smallest weights.

    min_s  sum |W_i|^2 + |b_i|^2 + |W_{i+1}|^2,    (W_i, b_i, W_{i+1}) -> (s W_i, s b_i, W_{i+1}/s)

at which a unit's incoming and outgoing weights have equal norm. The problem is convex in log s, and
taking one symmetry after the other, s = (|out| / |in|)^(1/2), until none moves, solves it: Stock et
al. (2019), arXiv 1902.10416; balanced weights are those of Neyshabur et al. (2015), arXiv
1506.02617. `canonical_scales` are taken first, so that the result is constant on orbits too, and
where nothing reads a unit that could be balanced against, as before batch norm, they are kept.

Weights of trained networks stay near the size that they were trained at, which distances and
principal components need: a rms of 1 for all that comes in hides all that goes out.
Entries with an exponent other than 1 and -1, or an offset, move along and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.canonical.declared import with_units
from wsl.symmetry.elements.canonical.scales import canonical_scales, divided
from wsl.symmetry.elements.canonical.unit_axis import UnitAxis
from wsl.symmetry.spec import PermutationSpec

_ROUNDS, _STILL = 200, 1e-6


def balanced_scales(
    spec: PermutationSpec, params: Mapping[str, Tensor], groups: Sequence[str] | None = None
) -> Params:
    """The same function, units' incoming and outgoing weights of equal norm; (batch, *shape).

    ``groups`` as in `canonical_scales`, whose errors are raised here too. Stops where no scale
    moves by more than 1e-6, or after 200 rounds, which networks of more than a few layers may need.
    """
    moved = canonical_scales(spec, params, groups)
    declared = with_units(spec, positive=groups or ())
    symmetries = [
        [UnitAxis.of(declared, place) for place in unit.places]
        for unit in declared.units
        if unit.kind == "scale" and (groups is None or unit.group in groups)
    ]
    for _ in range(_ROUNDS):
        steps = [_balance(moved, axes) for axes in symmetries]
        if max(steps, default=0.0) < _STILL:
            break
    return moved


def _balance(moved: Params, axes: Sequence[UnitAxis]) -> float:
    """Balance one symmetry in place; the largest change of a scale, as |log s|."""
    into, out = (_squares(moved, axes, exponent=exponent) for exponent in (1, -1))
    if into is None or out is None:
        return 0.0
    there = (into > 0) & (out > 0)
    q = torch.where(there, into / torch.where(there, out, 1.0), 1.0) ** 0.25
    for axis in axes:
        name = axis.place.tensor
        moved[name] = divided(moved[name], axis, q, dead=torch.zeros_like(there))
    return float(q.log().abs().max())


def _squares(params: Params, axes: Sequence[UnitAxis], *, exponent: int) -> Tensor | None:
    """The sum of squares (batch, units) of the entries that a scale multiplies or divides."""
    found = [
        axis.rows(params[axis.place.tensor]).square().sum(-1)
        for axis in axes
        if axis.place.exponent == exponent and not axis.place.offset
    ]
    return torch.stack(found).sum(0) if found else None
