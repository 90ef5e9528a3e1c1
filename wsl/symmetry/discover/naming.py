"""Write the solved axes as a specification: name the groups, and say why other axes are fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsl.symmetry.discover.axes import Atom, Axis, Value, atoms, resolve, size
from wsl.symmetry.spec import Group, PermutationSpec, grammar

ALONE = "cut into single positions"


def write(
    weights: Mapping[str, Value], parents: Mapping[Atom, Atom], labels: Sequence[tuple[Axis, str]]
) -> PermutationSpec:
    """The specification of solved axes: names are given in the order of tensors and axes."""
    axes = {name: tuple(map(resolve, value)) for name, value in weights.items()}
    # The first label of an atom counts, hence the reversal.
    names = _names(axes, {atom: role for axis, role in reversed(labels) for atom in atoms(axis)})
    declared = _declared(names, parents)
    annotations = [
        (tensor, tuple(_axis(axis, names) for axis in value)) for tensor, value in axes.items()
    ]
    return PermutationSpec(declared, tuple(annotations), _pinned(axes))


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
