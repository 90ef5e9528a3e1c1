"""The groups of a network under the names of a specification that was given for it.

The given one may name groups otherwise, tie some of them, or leave some out: its elements are then
elements of the network's own specification, and act on activations in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from wsl.symmetry.spec import (
    Atom,
    Axes,
    Axis,
    PermutationSpec,
    SpecError,
    format_axes,
    normal_axis,
)


def names_in(own: PermutationSpec, given: PermutationSpec) -> dict[str, Atom]:
    """What each group of a network is called in ``given``: a name, or its size where it is fixed.

    Raises `SpecError` unless every element of ``given`` is one of ``own``.
    """
    if unknown := next((name for name in given.axes if name not in own.axes), None):
        raise SpecError(
            f"{unknown}: the given specification has it, but the network does not; use "
            "wsl.permutation_spec of this network, or groups of it"
        )
    names = _names(own, given)
    for tensor, axes in own.annotations:
        theirs = given.axes.get(tensor)
        same = own.shapes[tensor] == given.shapes.get(tensor)
        if theirs is None or not same or renamed(axes, names) != theirs:
            what = "is missing" if theirs is None else f"is '{format_axes(theirs)}'"
            raise SpecError(
                f"{tensor}: {what} in the given specification, but the network has "
                f"'{format_axes(axes)}'; use wsl.permutation_spec of this network, or groups of it"
            )
    _check_families(own, given, names)
    return names


def renamed(axes: Axes, names: Mapping[str, Atom]) -> Axes:
    """Axes under other names of the groups."""
    return tuple(
        normal_axis([tuple(names.get(str(atom), atom) for atom in segment) for segment in axis])
        for axis in axes
    )


def _names(own: PermutationSpec, given: PermutationSpec) -> dict[str, Atom]:
    names: dict[str, Atom] = dict(own.groups)
    for tensor, axes in own.annotations:
        for mine, theirs in zip(axes, given.axes.get(tensor, ()), strict=False):
            names |= _paired(mine, theirs)
    return names


def _paired(mine: Axis, theirs: Axis) -> dict[str, Atom]:
    """Names that stand at the same place of an axis; where one has fewer factors, nothing."""
    return {
        str(atom): other
        for segment, others in zip(mine, theirs, strict=False)
        if len(segment) == len(others)
        for atom, other in zip(segment, others, strict=True)
        if isinstance(atom, str) and isinstance(other, str)
    }


def _check_families(
    own: PermutationSpec, given: PermutationSpec, names: Mapping[str, Atom]
) -> None:
    """A family in ``given`` must be one in the network, or its elements would be too many."""
    theirs = {group.name: group.per for group in given.declared}
    for group in own.declared:
        per = theirs.get(str(names[group.name]))
        if per is not None and (group.per is None or names[group.per] != per):
            raise SpecError(
                f"group '{names[group.name]}' is per '{per}' in the given specification, but moves "
                "alike in all blocks of the network; declare it without 'per'"
            )
