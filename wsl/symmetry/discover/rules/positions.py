"""Reading and writing at positions that a tensor holds: the axes they point into cannot move, the
tensor's own axes take over.

A tensor of positions is a tensor like any other. Where it was made from one axis only, the others
may still move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsl.symmetry.discover.axes import Axis, Value, is_value, pin, size
from wsl.symmetry.discover.exponents import (
    LINEAR,
    POSITIVE,
    VANISH,
    UnitRule,
    chosen,
    depending,
    picked,
    separately,
)
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import unite


def index(at: OpContext, self: Value, indices: list[Value | None], **_: Any) -> Any:
    """Advanced indexing: the positions' axes stand where the indexed axes stood, or in front if
    those were not neighbours.
    """
    if at.masked:
        return _kept(at, self, indices)
    dims = _indexed(at, self, indices)
    first = _first_place(dims)
    rest = [axis for i, axis in enumerate(self) if i not in dims]
    return (*rest[:first], *_places(indices), *rest[first:])


def index_put(
    at: OpContext, self: Value, indices: list[Value | None], values: Value, **_: Any
) -> Any:
    """Write at positions, or add; with one mask and one value, entry by entry."""
    if at.masked:
        return _masked(self, indices, values)
    dims = _indexed(at, self, indices)
    first = _first_place(dims)
    places = _places(indices)
    rest = [axis for i, axis in enumerate(self) if i not in dims]
    written = _meet((*rest[:first], *places, *rest[first:]), values)
    others = iter((*written[:first], *written[first + len(places) :]))
    return tuple(_fixed(at, axis) if i in dims else next(others) for i, axis in enumerate(self))


def gather_rows(at: OpContext, self: Value, dim: int, index: Value, **_: Any) -> Value:
    """Rows at positions given by a vector."""
    _pin(at, self[dim])
    return replace(self, dim, *index)


def embedding(at: OpContext, weight: Value, indices: Value, **_: Any) -> Value:
    """Rows of a table."""
    return gather_rows(at, weight, 0, indices)


def gather(at: OpContext, self: Value, dim: int, index: Value, **_: Any) -> Value:
    """Entry by entry: along every other axis the positions belong to the row that they read."""
    if not self:
        return index
    _pin(at, self[dim])
    pairs = enumerate(zip(self, index, strict=True))
    return tuple(b if i == dim % len(self) else _row(at, a, b) for i, (a, b) in pairs)


def scatter(at: OpContext, self: Value, dim: int, index: Value, src: Any = None, **_: Any) -> Value:
    """Write entry by entry, one value or another tensor's entries."""
    if not self:
        return self
    _pin(at, self[dim])
    # Along other axes row i is written from row i; a shorter operand tells the rows apart.
    others = [other for other in (index, src) if is_value(other) and other]
    for i in (i for i in range(len(self)) if i != dim % len(self)):
        for other in others:
            self = replace(self, i, _longer(at, self[i], other[i]))
    if is_value(src) and src:
        _row(at, src[dim], index[dim])
    return replace(self, dim, _fixed(at, self[dim]))


def write_rows(
    at: OpContext, self: Value, dim: int, index: Value, source: Any = None, **_: Any
) -> Any:
    """Write or add whole rows, or one value."""
    if not self or not index:
        return NotImplemented
    _pin(at, self[dim])
    written = _meet(replace(self, dim, *index), source) if is_value(source) and source else self
    return replace(written, dim, _fixed(at, self[dim]))


def take_along(at: OpContext, self: Value, indices: Value, dim: int | None = None, **_: Any) -> Any:
    """`gather` whose axes may be of size one on either side."""
    if dim is None:
        return NotImplemented
    dim %= len(self)
    _pin(at, self[dim])
    rest = broadcast(replace(self, dim, ((),)), replace(indices, dim, ((),)))
    return replace(rest, dim, indices[dim])


def _indexed(at: OpContext, self: Value, indices: Sequence[Value | None]) -> list[int]:
    """The axes that are indexed, which cannot move."""
    dims = [i for i, value in enumerate(indices) if value is not None]
    for dim in dims:
        _pin(at, self[dim])
    return dims


def _first_place(dims: Sequence[int]) -> int:
    """Where the axes of positions stand: in front, if the indexed axes are not neighbours."""
    return dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0


def _places(indices: Sequence[Value | None]) -> Value:
    return broadcast(*(value for value in indices if value is not None))


def _masked(self: Value, indices: Sequence[Value | None], values: Value) -> Any:
    """Where a mask says so, one value: the mask's axes stand for as many of the tensor's."""
    one = all(size(axis) == 1 for axis in values)
    if not one or sum(value is not None for value in indices) != 1:
        return NotImplemented
    first = next(i for i, value in enumerate(indices) if value is not None)
    mask = indices[first] or ()
    return (*self[:first], *map(unite, self[first:], mask), *self[first + len(mask) :])


def _kept(at: OpContext, self: Value, indices: Sequence[Value | None]) -> Any:
    """What one mask keeps: its axes become one, and cannot move; the others pass."""
    given = [i for i, value in enumerate(indices) if value is not None]
    if len(given) != 1:
        return NotImplemented
    (first,) = given
    mask = indices[first] or ()
    for axis in (*mask, *self[first : first + len(mask)]):
        _pin(at, axis)
    kept = at.fixed("index", at.shape[first : first + 1])
    return (*self[:first], *kept, *self[first + len(mask) :])


def _meet(places: Value, values: Value) -> Value:
    """What is written moves as the place where it is written; its missing axes, and those of size
    one, are broadcast.
    """
    values = (*[((),)] * (len(places) - len(values)), *values[-len(places) :]) if places else ()
    return tuple(a if size(b) == 1 else unite(a, b) for a, b in zip(places, values, strict=True))


def _row(at: OpContext, a: Axis, b: Axis) -> Axis:
    """Axes of one length move alike; of the longer one only a part is read, and neither moves."""
    if size(a) == size(b):
        return unite(a, b)
    for axis in (a, b):
        pin(axis, f"part of {at.name}")
    return at.fixed("part", [size(b)])[0]


def _longer(at: OpContext, a: Axis, b: Axis) -> Axis:
    """The same where the longer axis stays."""
    return (
        unite(a, b) if size(a) == size(b) else (_row(at, a, b), at.fixed("part", [size(a)])[0])[1]
    )


def _fixed(at: OpContext, axis: Axis) -> Axis:
    """An axis that is indexed, and is not uniform any more if it was."""
    return at.fixed("index", [size(axis)])[0]


def _pin(at: OpContext, axis: Axis) -> None:
    pin(axis, f"index of {at.name}")


def scatter_units(arguments: Mapping[str, Any]) -> UnitRule:
    """What is written, or added, is as what it is written into; a product is neither."""
    kept = arguments.get("reduce") in (None, "add")
    return chosen("self src value", by="index") if kept else VANISH


def scatter_reduce_units(arguments: Mapping[str, Any]) -> UnitRule:
    """A sum or mean of what is written to one place, or the largest of it; a product is neither."""
    reduce = arguments.get("reduce")
    if reduce == "prod":
        return VANISH
    function = POSITIVE if reduce in ("amax", "amin") else LINEAR
    return chosen("self src", by="index", function=function)


def embedding_bag(
    at: OpContext, weight: Value, indices: Value, offsets: Value, **others: Any
) -> Any:
    """Rows of a table, summed over bags; no rule where the largest rows' positions are read."""
    if any(map(at.used, range(1, len(at.shapes)))):
        return NotImplemented
    per_sample: Value = others.get("per_sample_weights") or ()
    for axis in (weight[0], *indices, *offsets, *per_sample):
        _pin(at, axis)
    still = [at.fixed("index", lengths) for lengths in at.shapes]
    return [(still[0][0], weight[1]), *still[1:]]


def embedding_bag_units(arguments: Mapping[str, Any]) -> UnitRule:
    """Mode 2 takes the largest entries."""
    return separately(weight=POSITIVE if arguments.get("mode") == 2 else LINEAR)


RULES: OpTable = {
    **row("index", index, units=picked("indices")),
    **row("index_put", index_put, units=chosen("self values", by="indices")),
    **row("index_select", gather_rows, units=picked("index")),
    **row("embedding", embedding, units=picked("indices")),
    **row("embedding_bag", embedding_bag, units=depending(embedding_bag_units)),
    **row("gather", gather, units=picked("index")),
    **row("scatter", scatter, units=depending(scatter_units)),
    **row("scatter_reduce", scatter, units=depending(scatter_reduce_units)),
    **row("scatter_add", scatter, units=chosen("self src", by="index")),
    **row("index_add index_copy", write_rows, units=chosen("self source", by="index")),
    **row("index_fill", write_rows, units=chosen("self value", by="index")),
    **row("take_along_dim", take_along, units=picked("indices")),
}
