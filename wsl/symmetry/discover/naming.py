"""Write the solved axes as a specification: name the groups, and say why other axes are fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsl.symmetry.discover.axes import Atom, Axis, Value, atoms, resolve, size
from wsl.symmetry.discover.lazy import decided
from wsl.symmetry.spec import Axes, Group, PermutationSpec, grammar

ALONE = "cut into single positions"


def name_groups(
    weights: Mapping[str, Value], labels: Sequence[tuple[Axis, str]]
) -> dict[Atom, str]:
    """The name of every atom that may move, given in the order of tensors and axes."""
    axes = {name: tuple(map(resolve, value)) for name, value in weights.items()}
    # The first label of an atom counts, hence the reversal.
    return _names(axes, {atom: role for axis, role in reversed(labels) for atom in atoms(axis)})


def write(
    weights: Mapping[str, Value], parents: Mapping[Atom, Atom], names: Mapping[Atom, str]
) -> PermutationSpec:
    """The specification of solved axes, under the names of `name_groups`."""
    axes = {name: tuple(map(resolve, value)) for name, value in weights.items()}
    declared = _declared(names, parents)
    annotations = [
        (tensor, tuple(_axis(axis, names) for axis in value)) for tensor, value in axes.items()
    ]
    return PermutationSpec(declared, tuple(annotations), _pinned(axes))


def annotate(value: Value, names: Mapping[Atom, str]) -> Axes | None:
    """The annotation of any value of the graph once names are given; None where there is none.

    There is none where a factor is still undecided, and where writing the axis would fix a group
    that has been named.
    """
    if not all(map(decided, value)):
        return None
    axes = tuple(map(resolve, value))
    if blocked := [atom for atom in names if not atom.free]:
        for atom in blocked:
            atom.reason = None
        return None
    return tuple(_axis(axis, names) for axis in axes)


def _declared(names: Mapping[Atom, str], parents: Mapping[Atom, Atom]) -> tuple[Group, ...]:
    return tuple(
        Group(name, atom.size, names[parents[atom]] if atom in parents else None)
        for atom, name in names.items()
    )


def _names(axes: Mapping[str, Value], roles: Mapping[Atom, str]) -> dict[Atom, str]:
    names: dict[Atom, str] = {}
    counts: dict[str, int] = {}
    for value in axes.values():
        for atom in (atom for axis in value for segment in axis for atom in segment if atom.free):
            if atom not in names:
                kind = roles.get(atom, "c" if len(value) >= 3 else "h")
                counts[kind] = counts.get(kind, 0) + 1
                names[atom] = f"{kind}{counts[kind]}"
    return names


def _axis(axis: Axis, names: Mapping[Atom, str]) -> grammar.Axis:
    return grammar.normal_axis(
        [tuple(names.get(atom, atom.size) for atom in segment) or (1,) for segment in axis]
    )


def _pinned(axes: Mapping[str, Value]) -> dict[str, str]:
    """Why each axis longer than one is fixed altogether."""
    reasons: dict[str, str] = {}
    for tensor, value in axes.items():
        for i, axis in enumerate(value):
            found = list(atoms(axis))
            if size(axis) > 1 and not any(atom.free for atom in found):
                reasons[f"{tensor} axis {i}"] = (
                    "; ".join(dict.fromkeys(atom.reason or ALONE for atom in found)) or ALONE
                )
    return reasons
