"""`LinearMaps`: one matrix for each unit symmetry that mixes units, and its action on weights.

    e = 1:   theta[.., i, ..] -> sum_j M_ij theta[.., j, ..]          e = -1:   the same with M^-T

    linear       M in GL(n), or one for each index of the group that the family is per
    orthogonal   M in O(n); centred: M 1 = 1 as well
    rotation     M = c, complex numbers that multiply pairs of positions; 1 / conj(c) where e = -1

so that sums over units, like the score (M q) . (M^-T k) = q . k, stay what they are. Rotations
commute with those of rotary embeddings: Su et al. (2021), arXiv 2104.09864. Products are those of
matrices: ``(m @ n)(theta)`` is ``m(n(theta))`` to rounding. Diagonal matrices that are listed as
scales and signs too are a `Rescaling`; `check_normal` tells when both make a group together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.matrices import (
    act_at,
    carried,
    check_value,
    identity_of,
    inverse,
    random_of,
)
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.elements.rescaling import Rescaling
from wsl.symmetry.spec import PermutationSpec, SpecError, UnitSymmetry


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMaps:
    """``values[i]`` belongs to the i-th unit symmetry that mixes units.

    linear, orthogonal: float64 (n, n), or (size of per, n, n) for a family. rotation: complex128
    (n / 2,), or (heads, n / 2). Raises `SpecError` otherwise, and for a matrix that is singular or
    not of its kind.
    """

    spec: PermutationSpec
    values: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        units = mixing(self.spec)
        if len(self.values) != len(units):
            raise SpecError(
                f"{len(self.values)} values given, but the specification has {len(units)} linear "
                "maps, rotations and orthogonal maps"
            )
        for unit, value in zip(units, self.values, strict=True):
            check_value(self.spec, unit, value)

    @classmethod
    def identity(cls, spec: PermutationSpec) -> LinearMaps:
        """The element that changes nothing."""
        return cls(spec, tuple(identity_of(spec, unit) for unit in mixing(spec)))

    @classmethod
    def random(cls, spec: PermutationSpec, generator: torch.Generator | None = None) -> LinearMaps:
        """Well-conditioned matrices, uniform orthogonal ones, and numbers c with 1/2 < |c| < 2."""
        return cls(spec, tuple(random_of(spec, unit, generator) for unit in mixing(spec)))

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights; leading axes of the tensors are batch.

        Products are taken in at least float32. Raises `SpecError` if they do not fit the
        specification.
        """
        lead = len(self.spec.validate(params))
        moved = {name: params[name] for name in self.spec.axes}
        for unit, value in zip(mixing(self.spec), self.values, strict=True):
            still = torch.equal(value, identity_of(self.spec, unit).to(value.device))
            for place in () if still else unit.places:
                act = act_at(self.spec, unit, value, place=place)
                moved[place.tensor] = act(moved[place.tensor], lead)
        return moved

    def __matmul__(self, other: LinearMaps) -> LinearMaps:
        """The product: ``(m @ n)(theta) == m(n(theta))`` to rounding."""
        if self.spec != other.spec:
            raise SpecError("linear maps of two different specifications cannot be multiplied")
        theirs = iter(other.values)
        return self._map(lambda _, v: v * next(theirs) if v.is_complex() else v @ next(theirs))

    def __invert__(self) -> LinearMaps:
        """The inverse: ``(~m @ m)`` is the identity, to rounding."""
        return self._map(inverse)

    def permuted(self, permutation: Permutation) -> LinearMaps:
        """The conjugate p m p^-1: what p(theta) undergoes when theta undergoes m."""
        return self._map(lambda u, v: carried(self.spec, u, v, permutation=permutation))

    def rescaled(self, rescaling: Rescaling) -> LinearMaps:
        """The conjugate r m r^-1: what r(theta) undergoes when theta undergoes m.

        For specifications in which `check_normal` finds nothing wrong.
        """

        def conjugate(unit: UnitSymmetry, value: Tensor) -> Tensor:
            place = unit.places[0]
            factors = rescaling.factors_at(place)
            if unit.kind == "rotation" or factors is None:
                return value
            factors = factors.to(value) ** place.exponent
            return factors[..., :, None] * value / factors[..., None, :]

        return self._map(conjugate)

    def _map(self, f: Callable[[UnitSymmetry, Tensor], Tensor]) -> LinearMaps:
        pairs = zip(mixing(self.spec), self.values, strict=True)
        return LinearMaps(self.spec, tuple(f(unit, value) for unit, value in pairs))


def mixing(spec: PermutationSpec) -> tuple[UnitSymmetry, ...]:
    """The unit symmetries that mix units by matrices."""
    return tuple(unit for unit in spec.units if unit.mixes)


def check_normal(spec: PermutationSpec) -> None:
    """Raise `SpecError` unless scales and signs carry matrices of each kind to such matrices.

    A scale of the same units must act on all places of a linear map alike, or on none; beside an
    orthogonal map only signs may. Two of the matrices may not act on the same place.
    """
    seen: dict[tuple, UnitSymmetry] = {}
    for unit in mixing(spec):
        for place in unit.places:
            other = seen.setdefault(place[:4], unit)
            if other is not unit:
                raise SpecError(f"{unit.head}: '{other.head}' also acts on '{place}'; keep one")
        for other in spec.units:
            if not other.mixes and other.group == unit.group and not _carries(other, unit):
                raise SpecError(
                    f"{unit.head}: '{other.head}' does not act on all of its places alike, so the "
                    "two do not make a group whose elements have one form; remove that line"
                )


def _carries(other: UnitSymmetry, unit: UnitSymmetry) -> bool:
    """Whether a symmetry of single units acts on all places of a mixing one alike, or on none."""
    if unit.kind == "rotation":
        return True  # one number for a whole head commutes with it
    known = {place[:4]: place.exponent for place in other.places}
    powers = {known.get(place[:4], 0) * place.exponent for place in unit.places}
    if other.kind == "sign":
        return len({abs(power) for power in powers}) == 1
    alike = len(powers) == 1 and other.kind == "scale" and unit.kind == "linear"
    return alike or powers == {0}
