"""Specifications in the form of Git Re-Basin and its ports: a name, or None, for every axis.

    {"conv1.weight": ["c1", None, None, None], ...}

Ainsworth et al. (2023), arXiv 2209.04836. What a plain dictionary has no words for is written in
the grammar of `wsl.symmetry.spec.grammar`, as one string: ``"(c2 49)"``, ``"c1+c2"``, and
``"(head dk per head)"`` for a family. Sizes of groups follow from the tensors' shapes. Axes are in
PyTorch's order: kernels of the JAX original (height, width, in, out) must be permuted first. Unit
symmetries are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsl.base import did_you_mean
from wsl.symmetry.spec.fit import first_with
from wsl.symmetry.spec.grammar import NAME, Atom, Axes, Axis, SpecError, format_axis, parse_axes
from wsl.symmetry.spec.names import check_tensor_name
from wsl.symmetry.spec.parts import Group, Parts, axis_size, check, groups_of

AxesToPerm = dict[str, list[str | None]]
"""For each tensor, the group that permutes each axis, or None."""

_PER = re.compile(rf"({NAME})\s+per\s+({NAME})")
_Equation = tuple[Axis, int, str]
"""An axis over groups of which some have unknown sizes, its length, and the tensor it is of."""


def to_axes_to_perm(parts: Parts, *, strict: bool = False) -> AxesToPerm:
    """The dictionary of a specification.

    ``strict`` raises `SpecError` at an axis that needs more than one name, and at unit symmetries.
    """
    if strict and parts.units:
        raise SpecError(
            f"{parts.units[0].head}: a plain axes_to_perm holds permutations only; use "
            "without_units()"
        )
    per = {name: parent for name, parent in parts.per.items() if parent}
    return {
        name: [
            _term(axis, per, where=f"{name}: axis {i}" if strict else None)
            for i, axis in enumerate(axes)
        ]
        for name, axes in parts.annotations
    }


def from_axes_to_perm(
    mapping: Mapping[str, Sequence[str | None]],
    shapes: Mapping[str, Sequence[int]],
    *,
    sizes: Mapping[str, int] | None = None,
) -> Parts:
    """The parts of a dictionary, for tensors of these shapes; what it leaves out is fixed.

    Groups are declared in the order of ``sizes``, then in the order in which they are met.
    ``sizes`` is needed only where the shapes leave a choice, as in a product of two groups that
    stand nowhere else. Raises `SpecError` for unknown tensors, a wrong number of axes, or a group
    whose axes differ in size.
    """
    _check_known(mapping, shapes)
    parents: dict[str, str] = {}
    axes = {
        name: _read_axes(name, mapping.get(name), shapes[name], parents=parents) for name in shapes
    }
    known = _solve(axes, shapes, dict(sizes or {}))
    declared = tuple(Group(name, size, parents.get(name)) for name, size in known.items())
    parts = Parts(declared, tuple(axes.items()))
    check(parts)
    _check_lengths(parts, shapes)
    return parts


def _check_known(names: Iterable[str], shapes: Mapping[str, Sequence[int]]) -> None:
    if unknown := [name for name in names if name not in shapes]:
        raise SpecError(
            f"{unknown[0]}: is not among the tensors{did_you_mean(unknown[0], shapes)}; names "
            "must be the state dict's"
        )


def _check_lengths(parts: Parts, shapes: Mapping[str, Sequence[int]]) -> None:
    axes, sizes = parts.axes, parts.sizes
    for name, shape in shapes.items():
        for i, length in enumerate(shape):
            if (size := axis_size(axes[name][i], sizes)) != length:
                text = format_axis(axes[name][i])
                first = first_with(parts.annotations, text) or name
                source = f" (from {first})" if first != name else ""
                raise SpecError(
                    f"{name}: axis {i} has size {length}, but '{text}' has size {size}{source}"
                )


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


def _read_axes(name: str, terms: Any, shape: Sequence[int], *, parents: dict[str, str]) -> Axes:
    check_tensor_name(name)
    terms = [None] * len(shape) if terms is None else terms
    if isinstance(terms, str) or not isinstance(terms, Sequence) or len(terms) != len(shape):
        raise SpecError(
            f"{name}: has {len(shape)} axes, so it needs a list of {len(shape)} names or None, "
            f"got {terms!r}"
        )
    return tuple(
        _read_axis(f"{name}: axis {i}", term, length, parents=parents)
        for i, (term, length) in enumerate(zip(terms, shape, strict=True))
    )


def _read_axis(where: str, term: Any, length: int, *, parents: dict[str, str]) -> Axis:
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
    """Sizes of all groups: those given, then those that follow from an axis with one unknown.

    Every size that is found may leave an axis with one unknown less, so axes are read again until
    none is left.
    """
    waiting: list[_Equation] = [
        (axis, int(length), name)
        for name, value in axes.items()
        for axis, length in zip(value, shapes[name], strict=True)
    ]
    order = dict.fromkeys([*sizes, *groups_of(tuple(axis for axis, _, _ in waiting))])
    while waiting:
        still = [equation for equation in waiting if not _solve_one(equation, sizes)]
        if len(still) == len(waiting):
            raise SpecError(_undetermined(still[0], sizes))
        waiting = still
    return {name: sizes[name] for name in order}


def _solve_one(equation: _Equation, sizes: dict[str, int]) -> bool:
    """Add the size of an axis' one unknown group to ``sizes``; False if more are unknown."""
    axis, length, tensor = equation
    unknown = {group for group in groups_of((axis,)) if group not in sizes}
    if len(unknown) == 1:
        sizes[unknown.pop()] = _root(axis, length, sizes, tensor=tensor)
        return True
    return not unknown


def _undetermined(equation: _Equation, sizes: Mapping[str, int]) -> str:
    axis, length, tensor = equation
    names = ", ".join(sorted(group for group in groups_of((axis,)) if group not in sizes))
    return (
        f"{tensor}: '{format_axis(axis)}' of size {length} leaves a choice for {names}; give "
        "their sizes with sizes={...}"
    )


def _root(axis: Axis, length: int, sizes: Mapping[str, int], *, tensor: str) -> int:
    """The size of the one unknown group at which the axis has this length, by bisection."""

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
