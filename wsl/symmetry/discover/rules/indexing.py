"""Joining and cutting: a concatenation is a sum of segments, a slice is one of them."""

from __future__ import annotations

from functools import reduce
from typing import Any

from wsl.symmetry.discover.axes import Value, concat, fixed, fresh, multiply, pin, size
from wsl.symmetry.discover.lazy import take
from wsl.symmetry.discover.rules.call import Call, Rules, replace, rows
from wsl.symmetry.discover.unify import narrow, split, unite


def cat(at: Call, tensors: list[Value], dim: int = 0, **_: Any) -> Value:
    """Axes other than ``dim`` move alike."""
    tensors = [t for t in tensors if len(t) == len(at.shape)]
    dim %= len(at.shape)
    rest = reduce(lambda a, b: tuple(map(unite, a, b)), [replace(t, dim, ((),)) for t in tensors])
    return replace(rest, dim, concat(t[dim] for t in tensors))


def stack(at: Call, tensors: list[Value], dim: int = 0, **_: Any) -> Value:
    """The new axis is fixed, all others move alike."""
    rest = reduce(lambda a, b: tuple(map(unite, a, b)), tensors)
    dim %= len(at.shape)
    return (*rest[:dim], fixed(len(tensors), f"place in {at.name}"), *rest[dim:])


def parts(at: Call, self: Value, dim: int = 0, **_: Any) -> list[Value]:
    """split, chunk and their kin: consecutive parts of one axis."""
    sizes = [shape[dim] for shape in at.shapes]
    return [replace(self, dim, part) for part in split(self[dim], sizes)]


def unbind(at: Call, self: Value, dim: int = 0, **_: Any) -> list[Value]:
    """Every position of one axis."""
    return [take(self, dim, i) for i in range(len(at.shapes))]


def select(self: Value, dim: int, index: int, **_: Any) -> Value:
    """One position."""
    return take(self, dim, index)


def slice_(
    at: Call,
    self: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
    **_: Any,
) -> Value:
    """A range of positions; with a step, one position of every block of ``step``."""
    first, last = slice(start, end).indices(size(self[dim]))[:2]
    length, count = last - first, at.shape[dim]
    if step == 1:
        return replace(
            self, dim, narrow(self[dim], first, length) if length > 0 else fixed(0, "empty")
        )
    if first < step and size(self[dim]) == count * step:
        blocks = fresh(count)
        unite(self[dim], multiply(blocks, fixed(step, f"step of {at.name}")))
        return replace(self, dim, blocks)
    pin(self[dim], f"step of {at.name}")
    return replace(self, dim, *at.fixed("step", [count]))


def glu(at: Call, self: Value, dim: int = -1, **_: Any) -> Value:
    """One half gates the other: they move alike."""
    half = at.shape[dim]
    return replace(self, dim, unite(*split(self[dim], (half, half))))


RULES: Rules = {
    **rows(cat, "cat concat concatenate"),
    **rows(stack, "stack"),
    **rows(parts, "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk"),
    **rows(unbind, "unbind"),
    **rows(select, "select"),
    **rows(slice_, "slice"),
    **rows(glu, "glu"),
}
