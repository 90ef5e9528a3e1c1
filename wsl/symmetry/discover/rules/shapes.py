"""Reshapes factor axes into products and multiply them; transposes reorder; expansion makes uniform
axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from operator import mul
from typing import Any

from wsl.symmetry.discover.axes import Axis, Value, multiply, pin, shape, size
from wsl.symmetry.discover.exponents import CARRY, VANISH, Exponents, OpConstraints, folding
from wsl.symmetry.discover.lazy import factor
from wsl.symmetry.discover.rules.row import OpContext, OpTable, row
from wsl.symmetry.discover.unify import unite


def reshape(at: OpContext, self: Value, **_: Any) -> Any:
    """Row-major: axes between two positions where the products of sizes agree are multiplied and
    factored anew.
    """
    if math.prod(at.shape) != math.prod(shape(self)):
        return NotImplemented
    if math.prod(at.shape) == 0:
        return at.fixed("empty result", at.shape)
    old, new = [axis for axis in self if size(axis) > 1], [n for n in at.shape if n > 1]
    result: list[Axis] = []
    for before, after in _blocks([size(axis) for axis in old], new):
        result += _refactored(old[before], new[after])
    # Axes of length one hold nothing; they were left out, and go back where the result has them.
    longer = iter(result)
    return tuple(next(longer) if n > 1 else ((),) for n in at.shape)


def _refactored(old: list[Axis], sizes: list[int]) -> list[Axis]:
    """The product of axes in new factors."""
    return old if len(sizes) == 1 == len(old) else factor(multiply(*old), sizes)


def _blocks(old: list[int], new: list[int]) -> Iterator[tuple[slice, slice]]:
    """Ranges of old and new axes that hold the same entries, as short as possible."""
    ends, others = list(accumulate(old, mul)), list(accumulate(new, mul))
    i = j = 0
    for a, end in enumerate(ends):
        if end in others:
            b = others.index(end)
            yield slice(i, a + 1), slice(j, b + 1)
            i, j = a + 1, b + 1


def permute(self: Value, dims: list[int], **_: Any) -> Value:
    """Reorder axes."""
    return tuple(self[d] for d in dims)


def transpose(self: Value, dim0: int, dim1: int, **_: Any) -> Value:
    """Exchange two axes."""
    order = list(range(len(self)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return tuple(self[d] for d in order)


def swapaxes(self: Value, axis0: int, axis1: int, **_: Any) -> Value:
    """Exchange two axes, as numpy calls it."""
    return transpose(self, axis0, axis1)


def reverse(self: Value, **_: Any) -> Value:
    """The transpose of a matrix, and `Tensor.T`."""
    return self[::-1]


def adjoint(self: Value, **_: Any) -> Value:
    """Exchange the last two axes."""
    return (*self[:-2], self[-1], self[-2])


def movedim(self: Value, source: int | list[int], destination: int | list[int], **_: Any) -> Value:
    """Move axes to new places, the others keep their order."""
    places = (
        [source] if isinstance(source, int) else source,
        [destination] if isinstance(destination, int) else destination,
    )
    to = {d % len(self): s % len(self) for s, d in zip(*places, strict=True)}
    others = iter([d for d in range(len(self)) if d not in to.values()])
    return tuple(self[to[d] if d in to else next(others)] for d in range(len(self)))


def expand(at: OpContext, self: Value, **_: Any) -> Value:
    """Repeat axes of size one, and add axes on the left; the result is uniform along them."""
    new = len(at.shape) - len(self)
    old = (*((((),),) * new), *self)
    return tuple(
        axis if n == m else at.uniform(n)
        for axis, n, m in zip(old, at.shape, shape(old), strict=True)
    )


def broadcast_tensors(at: OpContext, tensors: list[Value], **_: Any) -> list[Value]:
    """All tensors, expanded to one shape."""
    return [expand(at, tensor) for tensor in tensors]


def fill_diagonal(at: OpContext, self: Value, **_: Any) -> Value:
    """Of a square, both axes move alike; of anything else, none moves."""
    if len(self) == 2 and size(self[0]) == size(self[1]):
        axis = unite(*self)
        return (axis, axis)
    for axis in self:
        pin(axis, f"diagonal of {at.name}")
    return at.fixed("diagonal", at.shape)


def tile(at: OpContext, self: Value, **_: Any) -> Value:
    """Repeat whole axes: (r c), uniform along r."""
    new = len(at.shape) - len(self)
    old = (*((((),),) * new), *self)
    return tuple(
        multiply(at.uniform(n // m), axis)
        for axis, n, m in zip(old, at.shape, shape(old), strict=True)
    )


def repeat_interleave(
    at: OpContext, self: Value, repeats: Any = None, dim: int | None = None, **_: Any
) -> Any:
    """Repeat each entry: (c r), uniform along r; no rule for a tensor of counts."""
    if not isinstance(repeats, int):
        return NotImplemented
    if dim is None:
        return (multiply(*self, at.uniform(repeats)),)
    return tuple(
        multiply(a, at.uniform(repeats)) if i == dim % len(self) else a for i, a in enumerate(self)
    )


def meshgrid(at: OpContext, tensors: list[Value], indexing: str = "ij", **_: Any) -> list[Value]:
    """One axis for each vector, of which every result is uniform along all others."""
    order = (
        [1, 0, *range(2, len(tensors))]
        if indexing == "xy" and len(tensors) > 1
        else list(range(len(tensors)))
    )
    return [
        tuple(
            (tensors[j] or (((),),))[0] if j == i else at.uniform(n)
            for j, n in zip(order, at.shape, strict=True)
        )
        for i in range(len(tensors))
    ]


def diagonal(
    at: OpContext, self: Value, offset: int = 0, dim1: int = 0, dim2: int = 1, **_: Any
) -> Value:
    """Of a square, both axes move alike; of anything else a part is taken, and neither moves."""
    first, second = dim1 % len(self), dim2 % len(self)
    rest = tuple(axis for i, axis in enumerate(self) if i not in (first, second))
    if offset == 0 and size(self[first]) == size(self[second]):
        return (*rest, unite(self[first], self[second]))
    for dim in (first, second):
        pin(self[dim], f"diagonal of {at.name}")
    return (*rest, *at.fixed("diagonal", at.shape[-1:]))


def diagonal_units(e: Exponents, op: OpConstraints) -> None:
    """Entry (i, i) has the exponents of both axes."""
    for constraint in op.constraints:
        both = [term.exponent for term in constraint.terms]
        if constraint.tied or (e.kind == "linear" and len(both) > 1):
            e.forbid(constraint)
        else:
            e.give(constraint, e.total(both))


RULES: OpTable = {
    **row("view reshape _unsafe_view view_as reshape_as", reshape, units=CARRY),
    **row("flatten unflatten squeeze unsqueeze ravel", reshape, units=CARRY),
    **row("meshgrid", meshgrid, units=CARRY),
    **row("diagonal", diagonal, units=folding(diagonal_units)),
    **row("permute", permute, units=CARRY),
    **row("transpose swapdims", transpose, units=CARRY),
    **row("swapaxes", swapaxes, units=CARRY),
    **row("t numpy_T", reverse, units=CARRY),
    **row("mT adjoint", adjoint, units=CARRY),
    **row("movedim moveaxis", movedim, units=CARRY),
    **row("expand expand_as broadcast_to", expand, units=CARRY),
    **row("broadcast_tensors", broadcast_tensors, units=CARRY),
    # A number on the diagonal, where units of both axes meet.
    **row("fill_diagonal_", fill_diagonal, units=VANISH),
    **row("repeat tile", tile, units=CARRY),
    **row("repeat_interleave", repeat_interleave, units=CARRY),
}
