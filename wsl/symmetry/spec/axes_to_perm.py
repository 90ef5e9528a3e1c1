"""Specifications in the form of Git Re-Basin and its ports: a dictionary with one name, or None,
for each axis.

    {"conv1.weight": ["c1", None, None, None], ...}         Ainsworth et al. (2023), arXiv
                                                            2209.04836

What a plain dictionary has no words for is written in the grammar of `wsl.symmetry.spec.grammar`,
as one string: ``"(c2 49)"``, ``"c1+c2"``, and ``"(head dk per head)"`` for a family. Sizes of
groups follow from the tensors' shapes. Axes are in PyTorch's
order: kernels of the JAX original (height, width, in, out) must be permuted first. Unit symmetries
are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsl.base import did_you_mean
from wsl.symmetry.spec.grammar import NAME, Atom, Axes, Axis, SpecError, format_axis, parse_axes
from wsl.symmetry.spec.names import check_tensor_name
from wsl.symmetry.spec.specification import Group, PermutationSpec

AxesToPerm = dict[str, list[str | None]]
"""For each tensor, the group that permutes each axis, or None."""

_PER = re.compile(rf"({NAME})\s+per\s+({NAME})")


def to_axes_to_perm(spec: PermutationSpec, *, strict: bool = False) -> AxesToPerm:
    """The dictionary of a specification; ``strict`` raises `SpecError` at an axis that needs more
    than one name.
    """
    if strict and spec.units:
        raise SpecError(
            f"{spec.units[0].head}: a plain axes_to_perm holds permutations only; use "
            "without_units()"
        )
    per = {group.name: group.per for group in spec.declared if group.per}
    return {
        name: [
            _term(axis, per, where=f"{name}: axis {i}" if strict else None)
            for i, axis in enumerate(axes)
        ]
        for name, axes in spec.annotations
    }


def from_axes_to_perm(
    mapping: Mapping[str, Sequence[str | None]],
    shapes: Mapping[str, Sequence[int]],
    *,
    sizes: Mapping[str, int] | None = None,
) -> PermutationSpec:
    """The specification of a dictionary, for tensors of these shapes; tensors that it leaves out
    are fixed altogether.

    Groups are declared in the order of ``sizes``, then in the order in which they are met.
    ``sizes`` is needed only where the shapes leave a choice, as in a product of two groups that
    stand nowhere else. Raises `SpecError` for unknown tensors, a wrong number of axes, or a group
    whose axes differ in size.
    """
    if unknown := [name for name in mapping if name not in shapes]:
        raise SpecError(
            f"{unknown[0]}: is not among the tensors{did_you_mean(unknown[0], shapes)}; names "
            "must be the state dict's"
        )
    parents: dict[str, str] = {}
    axes = {name: _read_axes(name, mapping.get(name), shapes[name], parents) for name in shapes}
    known = _solve(axes, shapes, dict(sizes or {}))
    declared = tuple(Group(name, size, parents.get(name)) for name, size in known.items())
    spec = PermutationSpec(declared, tuple(axes.items()))
    for name, shape in shapes.items():
        for i, length in enumerate(shape):
            if spec.axis_size(spec.axes[name][i]) != length:
                raise SpecError(
                    f"{name}: axis {i} has size {length}, but {_expected(spec, name, i)}"
                )
    return spec


def _term(axis: Axis, per: Mapping[str, str], *, where: str | None) -> str | None:
    atoms = [atom for segment in axis for atom in segment if isinstance(atom, str)]
    if not atoms:
        return None
    if len(axis) == 1 == len(axis[0]):
        return atoms[0]
    if where:
        raise SpecError(
            f"{where} is '{format_axis(axis)}', and a plain axes_to_perm has one name per axis; "
            "use strict=False"
        )
    inlined = {name: f"{name} per {parent}" for name, parent in per.items()}
    return format_axis(
        tuple(tuple(inlined.get(str(atom), atom) for atom in segment) for segment in axis)
    )


def _read_axes(name: str, terms: Any, shape: Sequence[int], parents: dict[str, str]) -> Axes:
    check_tensor_name(name)
    terms = [None] * len(shape) if terms is None else terms
    if isinstance(terms, str) or not isinstance(terms, Sequence) or len(terms) != len(shape):
        raise SpecError(
            f"{name}: has {len(shape)} axes, so it needs a list of {len(shape)} names or None, "
            f"got {terms!r}"
        )
    return tuple(
        _read_axis(f"{name}: axis {i}", term, length, parents)
        for i, (term, length) in enumerate(zip(terms, shape, strict=True))
    )


def _read_axis(where: str, term: Any, length: int, parents: dict[str, str]) -> Axis:
    if term is None:
        return ((int(length),),)
    if not isinstance(term, str):
        raise SpecError(f"{where}: {term!r} is neither a name nor None")
    for child, parent in _PER.findall(term):
        if parents.setdefault(child, parent) != parent:
            raise SpecError(
                f"{where}: '{child}' is per '{parent}' here and per '{parents[child]}' elsewhere"
            )
    try:
        axes = parse_axes(_PER.sub(r"\1", term))
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    if len(axes) != 1:
        raise SpecError(
            f"{where}: '{term}' describes {len(axes)} axes; write one, with parentheses around a "
            "product"
        )
    return axes[0]


def _solve(
    axes: Mapping[str, Axes], shapes: Mapping[str, Sequence[int]], sizes: dict[str, int]
) -> dict[str, int]:
    """Sizes of all groups: those given, then those that an axis with one unknown group leaves no
    choice about.
    """
    equations = [
        (axis, int(n), name)
        for name, value in axes.items()
        for axis, n in zip(value, shapes[name], strict=True)
    ]
    order = dict.fromkeys(
        [*sizes, *(atom for axis, _, _ in equations for atom in _groups_of(axis))]
    )
    waiting = [equation for equation in equations if any(True for _ in _groups_of(equation[0]))]
    while waiting:
        still = []
        for axis, length, tensor in waiting:
            unknown = {atom for atom in _groups_of(axis) if atom not in sizes}
            if len(unknown) == 1:
                sizes[unknown.pop()] = _root(axis, length, sizes, tensor)
            elif unknown:
                still.append((axis, length, tensor))
        if len(still) == len(waiting):
            names = ", ".join(sorted(atom for atom in _groups_of(still[0][0]) if atom not in sizes))
            raise SpecError(
                f"{still[0][2]}: '{format_axis(still[0][0])}' of size {still[0][1]} leaves a "
                f"choice for {names}; "
                "give their sizes with sizes={...}"
            )
        waiting = still
    return {name: sizes[name] for name in order}


def _groups_of(axis: Axis) -> Iterator[str]:
    return (atom for segment in axis for atom in segment if isinstance(atom, str))


def _root(axis: Axis, length: int, sizes: Mapping[str, int], tensor: str) -> int:
    """The size of the one unknown group, at which the axis has this length."""

    def total(guess: int) -> int:
        return sum(math.prod(_size(atom, sizes, guess) for atom in segment) for segment in axis)

    low, high = 1, max(1, length)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if total(middle) >= length else (middle + 1, high)
    if total(low) != length:
        raise SpecError(
            f"{tensor}: no size of a group makes '{format_axis(axis)}' as long as {length}"
        )
    return low


def _size(atom: Atom, sizes: Mapping[str, int], unknown: int) -> int:
    return atom if isinstance(atom, int) else sizes.get(atom, unknown)


def _expected(spec: PermutationSpec, name: str, i: int) -> str:
    text, size = format_axis(spec.axes[name][i]), spec.axis_size(spec.axes[name][i])
    first = next((o.tensor for o in spec.occurrences(text)), name)
    return f"'{text}' has size {size}" + (f" (from {first})" if first != name else "")
