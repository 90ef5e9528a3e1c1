"""The element of a negative control: a group moves everywhere but at some occurrences.

It is an element of another specification, in which the group has a second name at the occurrences
where it is to stand still, and moves under its own name only.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Axes, Group, Occurrence, PermutationSpec, Segment


def untied(
    spec: PermutationSpec, alone: Mapping[str, Permutation], still_at: frozenset[Occurrence]
) -> Permutation:
    """A group's element, with the group and the families inside it standing still at some places.

    ``alone`` gives the element that moves a group and nothing else, by the group's name.
    """
    tensor, axis, segment, factor = next(iter(still_at))
    name = str(spec.axes[tensor][axis][segment][factor])
    renamed = {old: f"{old}~" for old in (name, *_families(spec, name))}
    annotations = tuple(
        (tensor, _rename(axes, _factors_at(tensor, still_at), renamed))
        for tensor, axes in spec.annotations
    )
    identity = Permutation.identity(_declared(spec, annotations, renamed))
    moving = alone[name].indices
    return Permutation(
        identity.spec, {n: moving.get(n, index) for n, index in identity.indices.items()}
    )


def _families(spec: PermutationSpec, name: str) -> list[str]:
    return [group.name for group in spec.declared if group.per == name]


def _declared(
    spec: PermutationSpec, annotations: tuple[tuple[str, Axes], ...], renamed: Mapping[str, str]
) -> PermutationSpec:
    """The specification with these annotations; groups with a second name are declared twice."""
    copies = [
        Group(renamed[group.name], group.size, renamed.get(group.per or "", group.per))
        for group in spec.declared
        if group.name in renamed
    ]
    used = {
        atom for _, axes in annotations for axis in axes for segment in axis for atom in segment
    }
    declared = tuple(group for group in (*spec.declared, *copies) if group.name in used)
    return PermutationSpec(declared, annotations)


def _factors_at(tensor: str, places: frozenset[Occurrence]) -> set[tuple[int, int, int]]:
    return {place[1:] for place in places if place.tensor == tensor}


def _rename(axes: Axes, places: Set[tuple[int, int, int]], renamed: Mapping[str, str]) -> Axes:
    """The axes of one tensor, with second names in the terms where the group stands still."""
    return tuple(
        tuple(
            _rename_term(term, {k for a, t, k in places if (a, t) == (i, j)}, renamed)
            for j, term in enumerate(axis)
        )
        for i, axis in enumerate(axes)
    )


def _rename_term(term: Segment, factors: Set[int], renamed: Mapping[str, str]) -> Segment:
    """The group itself at these factors only; the families inside it wherever it is renamed."""
    name = next(iter(renamed))
    return tuple(
        renamed.get(str(atom), atom) if k in factors or (factors and atom != name) else atom
        for k, atom in enumerate(term)
    )
