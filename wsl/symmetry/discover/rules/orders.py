"""Operations that know positions along an axis: sorting, running sums, shifts, triangles.

Values that are sorted do not tell where they came from: the axis needs no pin unless the positions
are asked for, and what comes out is ordered, so that it cannot move. A shift along an axis is a
concatenation of its two parts, exchanged.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Axis, Value, concat, pin, size
from wsl.symmetry.discover.exponents import (
    CARRY,
    LARGEST,
    LINEAR,
    LINEAR_MAP,
    POSITION,
    POSITIVE,
    VANISH,
    chosen,
    depending,
    product,
    reduction,
)
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import split


def ordered(at: OpContext, self: Value, dim: int = -1, **_: Any) -> list[Value]:
    """Values in their order, and where they stood; of each row the first ones, or all."""
    if not self:
        return [(), ()]
    if at.used(1):
        pin(self[dim], f"order of {at.name}")
    at.between(replace(self, dim))
    return [replace(self, dim, *at.fixed("order", [at.shape[dim]]))] * 2


def best(
    at: OpContext,
    self: Value,
    dim: int | None = None,
    other: Value | None = None,
    keepdim: bool = False,
    **_: Any,
) -> Any:
    """The largest of two tensors, of all entries, or along an axis, with its position if that is
    asked for.
    """
    if other is not None:
        return broadcast(self, other)
    if dim is None or not self:
        return () if len(at.shapes) == 1 else [(), ()]
    if at.used(1):
        pin(self[dim], f"position of {at.name}")
    at.between(replace(self, dim))
    return [replace(self, dim, *[((),)] * keepdim)] * 2


def position(
    at: OpContext, self: Value, dim: int | None = None, keepdim: bool = False, **_: Any
) -> Value:
    """Where the largest entry stands: the axis cannot move, nor any if entries are counted through
    all of them.
    """
    if not self:
        return ()
    for axis in self if dim is None else [self[dim]]:
        pin(axis, f"position of {at.name}")
    return tuple(((),) for _ in at.shape) if dim is None else replace(self, dim, *[((),)] * keepdim)


def ranking(at: OpContext, self: Value, dim: int = -1, **_: Any) -> Value:
    """The positions that sort an axis."""
    return _still(at, self, dim)


def running(at: OpContext, self: Value, dim: int = -1, **_: Any) -> Value | list[Value]:
    """A function of all entries up to a position."""
    result = _still(at, self, dim)
    return result if len(at.shapes) == 1 else [result] * len(at.shapes)


def flip(at: OpContext, self: Value, dims: list[int], **_: Any) -> Value:
    """From the last entry to the first."""
    for dim in dims:
        self = _still(at, self, dim)
    return self


def roll(
    at: OpContext, self: Value, shifts: list[int], dims: list[int] | None = None, **_: Any
) -> Value:
    """The end of an axis comes before its beginning; without axes, all entries in one line."""
    if not dims:
        return _all_still(at, self)
    for shift, dim in zip(shifts, dims, strict=True):
        self = replace(self, dim, _rolled(self[dim], shift))
    return self


def triangle(at: OpContext, self: Value, **_: Any) -> Value:
    """The part of a matrix on one side of a diagonal."""
    for axis in self[-2:]:
        pin(axis, f"triangle of {at.name}")
    return (*self[:-2], *at.fixed("triangle", at.shape[-2:]))


def cross(at: OpContext, self: Value, other: Value, dim: int = -1, **_: Any) -> Value:
    """The vector product."""
    return broadcast(_still(at, self, dim), _still(at, other, dim))


def _rolled(axis: Axis, shift: int) -> Axis:
    if size(axis) < 2:
        return axis
    end = shift % size(axis)
    return concat(reversed(split(axis, (size(axis) - end, end))))


def _still(at: OpContext, value: Value, dim: int) -> Value:
    """The value with an axis pinned, and fixed even if it was uniform: entries are not alike after
    the operation.
    """
    if not value:
        return value
    pin(value[dim], f"order of {at.name}")
    return replace(value, dim, *at.fixed("order", [size(value[dim])]))


def _all_still(at: OpContext, value: Value) -> Value:
    for axis in value:
        pin(axis, f"order of {at.name}")
    return at.fixed("order", at.shape) if math.prod(at.shape) > 1 else value


EXTREMUM = depending(
    lambda arguments: (
        LARGEST if arguments.get("other") is None else chosen("self other", function=POSITIVE)
    )
)

RULES: OpTable = {
    **row("sort topk", ordered, units=LARGEST),
    **row("max min", best, units=EXTREMUM),
    **row("median nanmedian", best, units=LARGEST),
    **row("mode kthvalue", partial(best, dim=-1), units=LARGEST),
    **row("argmax argmin", position, units=reduction(POSITION)),
    **row("argsort", ranking, units=reduction(POSITION)),
    **row("cumsum", running, units=LINEAR_MAP),
    **row("cummax cummin", running, units=LARGEST),
    # Entries are products of as many as stand before them: each has another power of the factor.
    **row("cumprod", running, units=VANISH),
    **row("logcumsumexp", running, units=VANISH),
    **row("flip", flip, units=CARRY),
    **row("roll", roll, units=CARRY),
    **row("tril triu", triangle, units=reduction(LINEAR, zero=True)),
    **row("linalg_cross", cross, units=product("self other")),
}
