"""Joining and cutting: a concatenation is a sum of segments, a slice is one of them."""

from __future__ import annotations

from functools import reduce
from typing import Any

from wsl.symmetry.discover.axes import Value, concat, fixed, fresh, multiply, pin, size
from wsl.symmetry.discover.exponents import CARRY, Exponents, OpConstraints, UnitRule, join
from wsl.symmetry.discover.lazy import take
from wsl.symmetry.discover.rules.row import OpContext, OpTable, replace, row
from wsl.symmetry.discover.unify import narrow, split, unite


def cat(at: OpContext, tensors: list[Value], dim: int = 0, **_: Any) -> Value:
    """Axes other than ``dim`` move alike."""
    tensors = [t for t in tensors if len(t) == len(at.shape)]
    dim %= len(at.shape)
    rest = reduce(lambda a, b: tuple(map(unite, a, b)), [replace(t, dim, ((),)) for t in tensors])
    return replace(rest, dim, concat(t[dim] for t in tensors))


def hstack(at: OpContext, tensors: list[Value], **_: Any) -> Any:
    """Side by side: along the first axis of vectors, the second of others."""
    if not all(tensors):
        return NotImplemented
    return cat(at, tensors, dim=min(1, len(at.shape) - 1))


def vstack(at: OpContext, tensors: list[Value], **_: Any) -> Any:
    """One above another; a vector is a row."""
    if not all(tensors) or len(set(map(len, tensors))) > 1:
        return NotImplemented
    return cat(at, [t if len(t) > 1 else (((),), *t) for t in tensors], dim=0)


def narrowed(self: Value, dim: int, start: Any, length: int, **_: Any) -> Any:
    """A range of positions; no rule for a start that is computed."""
    if not isinstance(start, int):
        return NotImplemented
    return replace(self, dim, narrow(self[dim], start % max(size(self[dim]), 1), length))


def stack(at: OpContext, tensors: list[Value], dim: int = 0, **_: Any) -> Value:
    """The new axis is fixed, all others move alike."""
    rest = reduce(lambda a, b: tuple(map(unite, a, b)), tensors)
    dim %= len(at.shape)
    return (*rest[:dim], fixed(len(tensors), f"place in {at.name}"), *rest[dim:])


def parts(at: OpContext, self: Value, dim: int = 0, **_: Any) -> list[Value]:
    """split, chunk and their kin: consecutive parts of one axis."""
    sizes = [shape[dim] for shape in at.shapes]
    return [replace(self, dim, part) for part in split(self[dim], sizes)]


def unbind(at: OpContext, self: Value, dim: int = 0, **_: Any) -> list[Value]:
    """Every position of one axis."""
    return [take(self, dim, i) for i in range(len(at.shapes))]


def select(self: Value, dim: int, index: int, **_: Any) -> Value:
    """One position."""
    return take(self, dim, index)


def slice_(
    at: OpContext,
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
    if not count:
        part = fixed(0, "empty")
    elif step == 1:
        part = narrow(self[dim], first, length)
    elif first < step and size(self[dim]) == count * step:
        part = fresh(count)
        unite(self[dim], multiply(part, *at.fixed("step", [step])))
    else:
        pin(self[dim], f"step of {at.name}")
        (part,) = at.fixed("step", [count])
    return replace(self, dim, part)


def glu(at: OpContext, self: Value, dim: int = -1, **_: Any) -> Value:
    """One half gates the other: they move alike."""
    half = at.shape[dim]
    return replace(self, dim, unite(*split(self[dim], (half, half))))


def glu_units(e: Exponents, op: OpConstraints) -> None:
    """a sigmoid(b): the first half passes."""
    dim = op.arguments.get("dim", -1) % len(op.outputs[0])
    for constraint in op.constraints:
        halves = len(constraint.terms) == len(constraint.tied) == 1
        if e.kind == "linear" or not halves or constraint.terms[0].axis != dim:
            e.tie(constraint)
            e.forbid(constraint)
            continue
        ((first, second),) = constraint.tied
        e.vanish(e.use(second))
        e.give(constraint, e.use(first))


RULES: OpTable = {
    **row(
        "cat concat concatenate", cat, units=join(lambda rank, given: given.get("dim", 0) % rank)
    ),
    **row("hstack", hstack, units=join(lambda rank, _: min(1, rank - 1))),
    **row("vstack", vstack, units=join(lambda rank, _: 0 if rank > 1 else None)),
    **row("stack", stack, units=join(lambda *_: None)),
    **row("narrow", narrowed, units=CARRY),
    **row(
        "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk", parts, units=CARRY
    ),
    **row("unbind", unbind, units=CARRY),
    **row("select", select, units=CARRY),
    **row("slice", slice_, units=CARRY),
    **row("glu", glu, units=UnitRule(glu_units, separate=True)),
}
