"""Unit symmetries that the caller names, beside those that a specification has.

    odd       phi(-z) = -phi(z)            a sign at every place of the group
    positive  phi(s z) = s phi(z), s > 0   a scale: e = 1 where the group is a first axis, else -1
    phases    phi(z + pi / w) = -phi(z)    shifts of the bias, flips where it is no first axis

What `wsl.symmetry.symmetry_spec` finds is proved and knows normalisations and residual streams.
Named groups are taken on the caller's word: every tensor on which the group acts must be a weight
(out, in) or a bias of a plain linear map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from wsl.symmetry.elements.canonical.signs import bias_of
from wsl.symmetry.spec import PermutationSpec, Place, SpecError, UnitSymmetry


def with_units(
    spec: PermutationSpec,
    *,
    odd: Sequence[str] = (),
    positive: Sequence[str] = (),
    phases: Mapping[str, float] | None = None,
) -> PermutationSpec:
    """The specification with a line for each named group that has none of that kind.

    ``phases`` maps groups to w. Raises `SpecError` for groups that do not exist, and for the phase
    of a group without bias.
    """
    phases = phases or {}
    signs = _lines(spec, "sign", odd, inverse=1)
    scales = _lines(spec, "scale", positive, inverse=-1)
    turns = [
        UnitSymmetry("phase", group, _shifts(spec, group), phases[group])
        for group in _missing(spec, "phase", phases)
    ]
    return dataclasses.replace(spec, units=(*spec.units, *signs, *scales, *turns))


def _lines(
    spec: PermutationSpec, kind: str, groups: Iterable[str], *, inverse: int
) -> list[UnitSymmetry]:
    return [
        UnitSymmetry(kind, group, _places(spec, group, inverse=inverse))
        for group in _missing(spec, kind, groups)
    ]


def _missing(spec: PermutationSpec, kind: str, groups: Iterable[str]) -> list[str]:
    """The groups that have no line of a kind, once all are known to exist."""
    known = {unit.group for unit in spec.units if unit.kind == kind}
    for group in groups:
        if group not in spec.groups:
            raise SpecError(
                f"{kind} of group '{group}': there is no such group; the groups are "
                f"{sorted(spec.groups)}"
            )
    return [group for group in groups if group not in known]


def _places(spec: PermutationSpec, group: str, *, inverse: int) -> tuple[Place, ...]:
    return tuple(Place(*at, exponent=inverse if at.axis else 1) for at in spec.occurrences(group))


def _shifts(spec: PermutationSpec, group: str) -> tuple[Place, ...]:
    return Place(bias_of(spec, group), 0), *(
        place for place in _places(spec, group, inverse=-1) if place.axis
    )
