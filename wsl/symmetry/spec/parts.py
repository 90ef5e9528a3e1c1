"""What a specification consists of: its groups, the annotation of every tensor, and notes on both.

`Parts` is that content without the promise that it is consistent. Texts are read into it, names
are changed in it, and `PermutationSpec` is made of it once `check` has found nothing wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wsl.symmetry.spec.grammar import Atom, Axes, Axis, Segment, SpecError
from wsl.symmetry.spec.units import UnitSymmetry, check_rotations, check_units

Annotations = tuple[tuple[str, Axes], ...]
"""The axes of each tensor, by name, in state-dict order."""


class Group(NamedTuple):
    """A permutation group S_size; with ``per``, one such group for each index of the group named.

    The second is called a family of the group ``per``.
    """

    name: str
    size: int
    per: str | None = None

    def __str__(self) -> str:
        return f"{self.name} = {self.size}" + (f" per {self.per}" if self.per else "")


class Occurrence(NamedTuple):
    """Where a group acts: tensor, axis, segment of the concatenation, position in the product."""

    tensor: str
    axis: int
    segment: int
    factor: int


class Parts(NamedTuple):
    """The fields of a `PermutationSpec`, in the order of its constructor."""

    declared: tuple[Group, ...]
    annotations: Annotations
    pinned: Mapping[str, str] = {}
    units: tuple[UnitSymmetry, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each group, by name."""
        return {group.name: group.size for group in self.declared}

    @property
    def per(self) -> dict[str, str | None]:
        """The group that each group is a family of, or None, by name."""
        return {group.name: group.per for group in self.declared}

    @property
    def axes(self) -> dict[str, Axes]:
        """Annotation of each tensor, by name."""
        return dict(self.annotations)


def segment_size(segment: Segment, sizes: Mapping[str, int]) -> int:
    """Length of one product of atoms, for groups of these sizes."""
    return math.prod(atom if isinstance(atom, int) else sizes[atom] for atom in segment)


def axis_size(axis: Axis, sizes: Mapping[str, int]) -> int:
    """Length of an axis, for groups of these sizes."""
    return sum(segment_size(segment, sizes) for segment in axis)


def atoms_of(annotations: Annotations) -> Iterator[tuple[Occurrence, Atom]]:
    """Every atom of every axis of every tensor, with the place where it stands."""
    for name, axes in annotations:
        for i, axis in enumerate(axes):
            for j, segment in enumerate(axis):
                for k, atom in enumerate(segment):
                    yield Occurrence(name, i, j, k), atom


def groups_of(axes: Axes) -> Iterator[str]:
    """The names of groups in the axes of a tensor, as often as they stand there."""
    return (atom for axis in axes for segment in axis for atom in segment if isinstance(atom, str))


def check(parts: Parts) -> None:
    """Raise `SpecError` unless every group is declared once, has a size, and acts somewhere."""
    if len(parts.sizes) != len(parts.declared) or len(parts.axes) != len(parts.annotations):
        raise SpecError("a group or a tensor is declared twice; keep one line for each")
    _check_annotations(parts)
    used = {atom for _, axes in parts.annotations for atom in groups_of(axes)}
    for group in parts.declared:
        if group.name not in used:
            raise SpecError(f"group '{group.name}' is declared but acts on no tensor; remove it")
    for group in parts.declared:
        if group.size < 1:
            raise SpecError(f"group '{group.name}' has size 0; a group needs at least one element")
    check_units(parts.units, _places(parts))
    check_rotations(parts.units, parts.axes, parts.per)


def _places(parts: Parts) -> dict[str, set[Occurrence]]:
    """Where each group acts; nobody asks where there are no symmetries of units."""
    places: dict[str, set[Occurrence]] = {name: set() for name in parts.sizes}
    for place, atom in atoms_of(parts.annotations) if parts.units else ():
        if isinstance(atom, str):
            places[atom].add(place)
    return places


def _check_annotations(parts: Parts) -> None:
    per, axes = parts.per, parts.axes
    for place, atom in atoms_of(parts.annotations):
        if isinstance(atom, int):
            continue
        if atom not in per:
            raise SpecError(
                f"{place.tensor}: group '{atom}' has no size; add '{atom} = SIZE' to the first line"
            )
        # The member of a family is chosen by the index of its parent, which must be known first.
        before = axes[place.tensor][place.axis][place.segment][: place.factor]
        if per[atom] is not None and per[atom] not in before:
            raise SpecError(
                f"{place.tensor}: '{atom}' is per '{per[atom]}', which must stand before it in the "
                "same product"
            )
