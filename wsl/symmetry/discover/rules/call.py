"""What a rule is told about the operation that it describes, and the two helpers that most rules
share.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverloadPacket

from wsl.symmetry.discover.axes import Axis, Value, fixed, pin, size
from wsl.symmetry.discover.unify import unite

Rule = Callable[..., Value | list[Value]]
Rules = dict[OpOverloadPacket, Rule]


def rows(rule: Rule, names: str) -> Rules:
    """One row of the table for each ATen operation named."""
    return {getattr(torch.ops.aten, name): rule for name in names.split()}


@functools.cache
def required(rule: Rule) -> frozenset[str]:
    """Names of the arguments that a rule cannot do without."""
    parameters = inspect.signature(rule).parameters.values()
    return frozenset(
        p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD
    ) - {"at"}


class Operand(tuple[Axis, ...]):
    """A `Value` among the arguments of an operation, told apart from tuples that are structure."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Call:
    """One node of the graph: the operation's name and the shapes of its outputs.

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


def is_value(argument: Any) -> bool:
    """Whether an argument is a tensor."""
    return isinstance(argument, Operand)


def pin_space(at: Call, value: Value, count: int) -> None:
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
