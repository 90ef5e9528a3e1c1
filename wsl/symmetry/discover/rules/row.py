"""A row of the table of operations, what an axes rule is told, and the helpers of most rules."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch._ops import OpOverloadPacket

from wsl.symmetry.discover.axes import Axis, Value, fixed, pin, size
from wsl.symmetry.discover.exponents import UnitRule
from wsl.symmetry.discover.unify import unite

AxesRule = Callable[..., Value | list[Value]]
"""``rule(**arguments, at=context)``: axes of the results, or `NotImplemented`."""


class OpRules(NamedTuple):
    """What is known of one operation: how its axes correspond, and how its units scale."""

    axes: AxesRule
    units: UnitRule


OpTable = dict[OpOverloadPacket, OpRules]


NEWER = frozenset({"_grouped_mm"})
"""Operations that the oldest torch that is promised does not have."""


def row(names: str, axes: AxesRule, *, units: UnitRule) -> OpTable:
    """The row of each ATen operation named; `VANISH` says that its units cannot be scaled."""
    aten = torch.ops.aten
    known = [name for name in names.split() if name not in NEWER or hasattr(aten, name)]
    return {getattr(aten, name): OpRules(axes, units) for name in known}


@functools.cache
def required(rule: AxesRule) -> frozenset[str]:
    """Names of the arguments that a rule cannot do without."""
    parameters = inspect.signature(rule).parameters.values()
    return frozenset(
        p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD
    ) - {"at"}


@dataclasses.dataclass(frozen=True)
class OpContext:
    """One call of an operation in the graph: its name and the shapes of its outputs.

    ``uniform`` makes an axis along which the result is constant. ``label`` tells the role of an
    axis. ``between`` tells of a tensor on the way to the result: of the statistics that a
    normalization divides by, for example. ``used`` says whether anything reads an output,
    ``masked`` whether a list of operands holds a mask.
    """

    name: str
    shapes: Sequence[tuple[int, ...]]
    uniform: Callable[[int], Axis]
    label: Callable[[Axis, str], None]
    between: Callable[[Value], None]
    used: Callable[[int], bool]
    masked: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.shapes[0]

    def fixed(self, what: str, lengths: Sequence[int]) -> Value:
        """Axes that cannot move, for the reason ``what of operation``."""
        return tuple(fixed(length, f"{what} of {self.name}") for length in lengths)


def broadcast(*values: Value) -> Value:
    """The axes of an elementwise result: aligned from the right, axes of size one match
    anything.
    """
    result: Value = ()
    for value in values:
        result, value = sorted((result, value), key=len, reverse=True)
        lead = len(result) - len(value)
        result = (*result[:lead], *map(_match, result[lead:], value))
    return result


def pin_space(at: OpContext, value: Value, count: int) -> None:
    """The last ``count`` axes are positions in space and cannot move."""
    for axis in value[-count:]:
        pin(axis, f"space of {at.name}")


def replace(value: Value, dim: int, *axes: Axis) -> Value:
    """The value with axis ``dim`` replaced by other axes."""
    dim %= len(value)
    return (*value[:dim], *axes, *value[dim + 1 :])


def _match(a: Axis, b: Axis) -> Axis:
    if size(a) == 1 or size(b) == 1:
        return b if size(a) == 1 else a
    return unite(a, b)
