"""`canonical_scales`: one representative of the positive scales of units.

    phi(s z) = s phi(z)  (relu):    (W_i, b_i, W_{i+1}) -> (W_i / q, b_i / q, W_{i+1} q),    q = rms of a unit's own (W_i, b_i)

leaves f unchanged. Neyshabur et al. (2015), arXiv 1506.02617. In general q_i = rms |theta + c|^(1/e) over the places of a unit
symmetry with e > 0, and (theta + c) -> (theta + c) q^-e: batch norms too, with `wsl.symmetry.symmetry_spec`. Symmetries are
taken one after the other, such that those that also act where q is read have been taken before: so q is covariant, and the
result is constant on orbits, idempotent, equivariant to permutations and signs, smooth away from zero. A unit whose places
with e > 0 are all zero says nothing, and what reads it becomes zero. Entries from 1e-18 to 1e18 do not overflow in float32.
Where a place with e > 0 cannot be read in any order q is read from the others; if those are zero the unit keeps its scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.nn.charges import with_units
from wsl.nn.unit_values import spread, unit_rows
from wsl.params import Params
from wsl.symmetry import PermutationSpec, Place, SpecError, UnitSymmetry


def canonical_scales(spec: PermutationSpec, params: Mapping[str, Tensor], groups: Sequence[str] | None = None) -> Params:
    """Weights (batch, *shape) with the same function, in which every unit has incoming weights of rms 1.

    ``groups`` are those to treat, by default all with a scale in the specification; for one without see `charges`. Integer
    tensors stay as they are. Raises `SpecError` if no order of the symmetries exists.
    """
    spec = with_units(spec, positive=groups or ())
    moved = dict(params)
    for step in _plan(spec, None if groups is None else tuple(groups)):
        q, dead = _size(spec, moved, step)
        for place in step.unit.places:
            moved[place.tensor] = _scaled(spec, moved[place.tensor], place, _factor(q, dead, place.exponent))
    return moved


def typical_sizes(spec: PermutationSpec, sizes: Mapping[str, float], groups: Sequence[str] | None = None) -> dict[str, float]:
    """The rms of each tensor once scales are canonical, for weights that have the rms ``sizes`` and are equal in size."""
    even = {name: torch.full((1, *shape), sizes[name], dtype=torch.float64) for name, shape in spec.shapes.items()}
    return {name: float(t.square().mean().sqrt()) for name, t in canonical_scales(spec, even, groups).items()}


class _Step(NamedTuple):
    unit: UnitSymmetry
    anchors: tuple[Place, ...]


@lru_cache(maxsize=256)
def _plan(spec: PermutationSpec, groups: tuple[str, ...] | None) -> tuple[_Step, ...]:
    """An order of the scales: at each step the one that the most of its incoming weights can tell."""
    left = [unit for unit in spec.units if unit.kind == "scale" and (groups is None or unit.group in groups)]
    steps = []
    while left:
        best = max(left, key=lambda unit: (_share(spec, unit, left), -left.index(unit)))
        anchors = _anchors(best, left)
        if not anchors:
            raise SpecError(f"{best.head}: another scale acts wherever it does, so that none of the two can be read off alone; "
                            "leave one of them out")  # fmt: skip
        steps.append(_Step(best, anchors))
        left.remove(best)
    return tuple(steps)


def _anchors(unit: UnitSymmetry, left: Sequence[UnitSymmetry]) -> tuple[Place, ...]:
    """Places with e > 0 on which nothing else acts that is still to be done."""
    others = [place for other in left for place in other.places]
    alone = [p for p in unit.places if p.exponent > 0 and sum(_meet(p, other) for other in others) == 1]
    return tuple(alone)


def _meet(a: Place, b: Place) -> bool:
    return a.tensor == b.tensor and (a.axis != b.axis or a.segment == b.segment)


def _share(spec: PermutationSpec, unit: UnitSymmetry, left: Sequence[UnitSymmetry]) -> float:
    size = {place: spec.shapes[place.tensor].numel() for place in unit.places if place.exponent > 0}
    return sum(size[place] for place in _anchors(unit, left)) / max(1, sum(size.values()))


def _size(spec: PermutationSpec, params: Mapping[str, Tensor], step: _Step) -> tuple[Tensor, Tensor]:
    """q (batch, units), 1 where it cannot be read, and which units have only zeros at places with e > 0."""
    rows = torch.cat([_rows(spec, params, place) for place in step.anchors], -1)
    top = rows.amax(-1)
    size = top * (rows / torch.where(top > 0, top, 1).unsqueeze(-1)).square().mean(-1).sqrt()
    rest = [place for place in step.unit.places if place.exponent > 0 and place not in step.anchors]
    dead = torch.stack([top, *(_rows(spec, params, place).amax(-1) for place in rest)]).amax(0) == 0
    return torch.where(top > 0, size, 1), dead


def _rows(spec: PermutationSpec, params: Mapping[str, Tensor], place: Place) -> Tensor:
    """|theta + c|^(1/e) of a place."""
    rows = (unit_rows(spec, params, place) + place.offset).abs()
    return rows if place.exponent == 1 else rows ** (1 / place.exponent)


def _factor(q: Tensor, dead: Tensor, exponent: int) -> Tensor:
    return torch.where(dead, 0 if exponent < 0 else 1, q ** float(-exponent))


def _scaled(spec: PermutationSpec, tensor: Tensor, place: Place, factor: Tensor) -> Tensor:
    """(theta + c) times a factor (batch, units) - c."""
    along = spread(spec, place, factor, elsewhere=1.0).to(tensor.dtype)
    return tensor * along if not place.offset else (tensor + place.offset) * along - place.offset
