"""The negative control's element: a group moves everywhere but at one occurrence, where it should
have moved too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Axes, Group, Occurrence, PermutationSpec, Segment


def untied(
    spec: PermutationSpec, alone: Mapping[str, Permutation], places: frozenset[Occurrence]
) -> Permutation:
    """A group's element, with the group standing still at some places; families inside it stand
    still there too.
    """
    place = next(iter(places))
    name = str(spec.axes[place.tensor][place.axis][place.segment][place.factor])
    inner = [group.name for group in spec.declared if group.per == name]
    still = {old: f"{old}~" for old in (name, *inner)}
    copies = [
        Group(still[d.name], d.size, still.get(d.per or "", d.per))
        for d in spec.declared
        if d.name in still
    ]
    axes = tuple(
        (tensor, tuple(_rename_axes(tensor, axes, places, still)))
        for tensor, axes in spec.annotations
    )
    used = {atom for _, value in axes for axis in value for segment in axis for atom in segment}
    declared = tuple(group for group in (*spec.declared, *copies) if group.name in used)
    identity = Permutation.identity(PermutationSpec(declared, axes))
    return Permutation(
        identity.spec,
        {n: alone[name].indices.get(n, index) for n, index in identity.indices.items()},
    )


def _rename_axes(
    tensor: str, axes: Axes, places: frozenset[Occurrence], still: Mapping[str, str]
) -> Iterator[Any]:
    for i, axis in enumerate(axes):
        yield tuple(
            tuple(_rename(segment, {o.factor for o in places if o[:3] == (tensor, i, j)}, still))
            for j, segment in enumerate(axis)
        )


def _rename(segment: Segment, factors: set[int], still: Mapping[str, str]) -> Iterator[Any]:
    first = next(iter(still))
    for k, atom in enumerate(segment):
        here = k in factors or (bool(factors) and atom != first)
        yield still.get(str(atom), atom) if here else atom
