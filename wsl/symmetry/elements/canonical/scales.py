"""`canonical_scales`: one representative of the positive scales of units.

    phi(s z) = s phi(z)   (relu)
    (W_i, b_i, W_{i+1})  ->  (W_i / q, b_i / q, W_{i+1} q),    q = rms of a unit's own (W_i, b_i)

leaves f unchanged. Neyshabur et al. (2015), arXiv 1506.02617. In general, with the exponents e and
constants c of a unit symmetry,

    q_i = rms |theta + c|^(1/e)  over its places with e > 0,      (theta + c)  ->  (theta + c) q^-e

which covers batch norms too, with `wsl.symmetry.symmetry_spec`. Symmetries are taken one after the
other, such that those that also act where q is read have been taken before. So q is covariant, and
the result is constant on orbits, idempotent, equivariant to permutations and signs, and smooth away
from zero. Where a place with e > 0 cannot be read in any order, q is read from the others; if those
are zero the unit keeps its scale. A unit whose places with e > 0 are all zero says nothing, and
what reads it becomes zero. Entries from 1e-18 to 1e18 do not overflow in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.canonical.declared import with_units
from wsl.symmetry.elements.canonical.unit_axis import UnitAxis
from wsl.symmetry.spec import PermutationSpec, Place, SpecError, UnitSymmetry


def canonical_scales(
    spec: PermutationSpec, params: Mapping[str, Tensor], groups: Sequence[str] | None = None
) -> Params:
    """The same function, with incoming weights of rms 1 for every unit; tensors (batch, *shape).

    ``groups`` are those to treat, by default all with a scale in the specification; for those
    without one see `with_units`. Integer tensors stay as they are. Raises `SpecError` if no order
    of the symmetries exists.
    """
    return CanonicalScales(spec, groups)(params)


class CanonicalScales:
    """The same for many calls: the order of the symmetries is worked out once."""

    def __init__(self, spec: PermutationSpec, groups: Sequence[str] | None = None):
        spec = with_units(spec, positive=groups or ())
        left = [
            unit
            for unit in spec.units
            if unit.kind == "scale" and (groups is None or unit.group in groups)
        ]
        self.scales: list[_Scale] = []
        while left:
            unit = max(left, key=lambda unit: _share(spec, unit, left))
            self.scales.append(_Scale.of(spec, unit, _anchors(unit, left)))
            left.remove(unit)

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Weights (batch, *shape)."""
        moved = dict(params)
        for scale in self.scales:
            q, dead = scale.sizes(moved)
            for axis in scale.axes:
                name = axis.place.tensor
                moved[name] = divided(moved[name], axis, q, dead=dead)
        return moved


def typical_sizes(
    spec: PermutationSpec, sizes: Mapping[str, float], groups: Sequence[str] | None = None
) -> dict[str, float]:
    """The rms of each tensor once scales are canonical, for weights that have the rms ``sizes``.

    The entries of a tensor count as equal in size.
    """
    even = {
        name: torch.full((1, *shape), sizes[name], dtype=torch.float64)
        for name, shape in spec.shapes.items()
    }
    canonical = canonical_scales(spec, even, groups)
    return {name: float(tensor.square().mean().sqrt()) for name, tensor in canonical.items()}


class _Scale(NamedTuple):
    """One symmetry: all its places, those that its sizes are read from, and others with e > 0."""

    axes: list[UnitAxis]
    anchors: list[UnitAxis]
    others: list[UnitAxis]

    @classmethod
    def of(cls, spec: PermutationSpec, unit: UnitSymmetry, anchors: Sequence[Place]) -> _Scale:
        if not anchors:
            raise SpecError(
                f"{unit.head}: other scales act wherever it does, so that it cannot be read off "
                "alone; leave one of them out"
            )
        axes = [UnitAxis.of(spec, place) for place in unit.places]
        own = [axis for axis in axes if axis.place in anchors]
        others = [a for a in axes if a.place.exponent > 0 and a.place not in anchors]
        return cls(axes, own, others)

    def sizes(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """q (batch, units), 1 where it cannot be read, and which units are dead.

        Dead is a unit with only zeros at its places with e > 0.
        """
        rows = torch.cat([_magnitudes(axis, params) for axis in self.anchors], -1)
        # Squares of what is divided by the largest entry neither overflow nor vanish.
        top = rows.amax(-1)
        safe = torch.where(top == 0, 1, top)
        mean = (rows / safe.unsqueeze(-1)).square().mean(-1)
        dead = self._largest(top, params) == 0
        return safe * torch.where(top == 0, 1, mean).sqrt(), dead

    def _largest(self, top: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """The largest magnitude of each unit at all places with e > 0; ``top`` is the anchors'."""
        others = (_magnitudes(axis, params).amax(-1) for axis in self.others)
        return torch.stack([top, *others]).amax(0)


def _magnitudes(axis: UnitAxis, params: Mapping[str, Tensor]) -> Tensor:
    """|theta + c|^(1/e) of a place, by units."""
    rows = (axis.rows(params[axis.place.tensor]) + axis.place.offset).abs()
    return rows if axis.place.exponent == 1 else rows ** (1 / axis.place.exponent)


def divided(tensor: Tensor, axis: UnitAxis, q: Tensor, *, dead: Tensor) -> Tensor:
    """(theta + c) q^-e - c; what reads a dead unit becomes zero."""
    exponent, offset = axis.place.exponent, axis.place.offset
    factor = torch.where(dead, 0 if exponent < 0 else 1, q ** float(-exponent))
    along = axis.spread(factor, elsewhere=1.0).to(tensor.dtype)
    return (tensor + offset) * along - offset if offset else tensor * along


def _anchors(unit: UnitSymmetry, left: Sequence[UnitSymmetry]) -> tuple[Place, ...]:
    """Places with e > 0 on which nothing else acts that is still to be done."""
    others = [place for other in left for place in other.places]
    return tuple(
        p for p in unit.places if p.exponent > 0 and sum(_meet(p, other) for other in others) == 1
    )


def _meet(a: Place, b: Place) -> bool:
    """Whether two places share entries: other segments of one axis do not."""
    return a.tensor == b.tensor and (a.axis != b.axis or a.segment == b.segment)


def _share(spec: PermutationSpec, unit: UnitSymmetry, left: Sequence[UnitSymmetry]) -> float:
    """Of the entries at a symmetry's places with e > 0, the share that can be read."""
    size = {place: spec.shapes[place.tensor].numel() for place in unit.places if place.exponent > 0}
    return sum(size[place] for place in _anchors(unit, left)) / max(1, sum(size.values()))
