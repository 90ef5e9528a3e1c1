"""Which symmetries of units a functional works with: those of the specification, or groups that the caller names.

    odd       phi(-z) = -phi(z):           sign at every place of the group
    positive  phi(s z) = s phi(z), s > 0:  scale with e = 1 where the group is a first axis, e = -1 elsewhere

What `wsl.symmetry.symmetry_spec` finds is proved and knows normalisations and residual streams. Named groups are taken on the
caller's word: every tensor on which the group acts must be a weight (out, in) or a bias of a plain linear map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from wsl.symmetry import PermutationSpec, Place, SpecError, UnitSymmetry


def with_units(spec: PermutationSpec, *, odd: Sequence[str] = (), positive: Sequence[str] = ()) -> PermutationSpec:
    """The specification with a line for each named group that has none of that kind. Raises `SpecError` for unknown groups."""
    lines = list(spec.units)
    for kind, groups in (("sign", odd), ("scale", positive)):
        for group in groups:
            if group not in spec.groups:
                raise SpecError(f"{kind} of group '{group}': there is no such group; the groups are {sorted(spec.groups)}")
            if not any(unit.kind == kind and unit.group == group for unit in lines):
                lines.append(UnitSymmetry(kind, group, _everywhere(spec, group, scale=kind == "scale")))
    return dataclasses.replace(spec, units=tuple(lines))


def _everywhere(spec: PermutationSpec, group: str, *, scale: bool) -> tuple[Place, ...]:
    return tuple(Place(*at, exponent=-1 if scale and at.axis else 1) for at in spec.occurrences(group))
