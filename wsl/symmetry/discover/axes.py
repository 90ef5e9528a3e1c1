"""The abstract domain of discovery: axes are concatenations of products of atoms.

    axis    = segment + segment + ...
    segment = (atom atom ...)           outermost first
    atom    = a size, and one of
        free       some permutation of it may exist
        pinned     it cannot move, for a reason
        uniform    the tensor is constant along it: every permutation leaves it as it is

The invariant that every rule keeps: for each assignment of permutations to the free atoms,
permuting the parameters along their axes permutes every tensor of the graph along its axes, in the
same way. Where a reshape or a concatenation cuts an atom, the atom is bound to a product or a sum,
and every axis that holds it follows, because axes are read through `resolve`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

BLOCKED = "a cut or a reshape does not respect its blocks"


class Atom:
    """An indivisible axis, until it is bound to the axis that it turned out to be. Compared by
    identity.
    """

    __slots__ = ("bound", "reason", "size", "uniform")

    def __init__(self, size: int, reason: str | None = None, uniform: bool = False) -> None:
        self.size, self.reason, self.uniform = size, reason, uniform
        self.bound: Axis | None = None

    @property
    def free(self) -> bool:
        """Neither pinned nor uniform."""
        return self.reason is None and not self.uniform

    def settled(self) -> bool:
        """Whether this is the atom's last form, as far as is known now."""
        return self.bound is None

    def like(self, size: int) -> Atom:
        """A new atom of another size and the same kind."""
        return Atom(size, self.reason, self.uniform)


Segment = tuple[Atom, ...]
Axis = tuple[Segment, ...]
Value = tuple[Axis, ...]
"""What discovery knows of a tensor: its axes."""


class Operand(tuple[Axis, ...]):
    """A `Value` among the arguments of an operation, told apart from tuples that are structure."""

    __slots__ = ()


def is_value(argument: Any) -> bool:
    """Whether an argument is a tensor."""
    return isinstance(argument, Operand)


def fresh(size: int) -> Axis:
    """A new axis about which nothing is known yet."""
    return one(Atom(size))


def fixed(size: int, reason: str) -> Axis:
    """An axis that cannot move."""
    return one(Atom(size, reason))


def uniform(size: int) -> Axis:
    """An axis along which the tensor is constant."""
    return one(Atom(size, uniform=True))


def size(axis: Axis) -> int:
    """Length of an axis."""
    return sum(math.prod(atom.size for atom in segment) for segment in axis)


def shape(value: Value) -> tuple[int, ...]:
    """Length of each axis."""
    return tuple(map(size, value))


def atoms(axis: Axis) -> Iterator[Atom]:
    """The atoms of an axis as it stands now."""
    return (atom for segment in resolve(axis) for atom in segment)


def resolve(axis: Axis) -> Axis:
    """The axis with every bound atom replaced by what it is bound to."""
    if all(atom.settled() for segment in axis for atom in segment):
        return axis
    segments: list[Segment] = []
    for segment in axis:
        segments += _meaning(segment[0]) if len(segment) == 1 else multiply(*map(_meaning, segment))
    return tuple(segments)


@dataclasses.dataclass
class Yielding:
    """The choice between blocks and their inside, where both cannot move.

    An axis of blocks, each of which is a concatenation, is h (a+b), but a sum of products can only
    hold (h a)+(h b), which is another order of the entries. So either the blocks are fixed and a
    and b may move, or, with ``inside``, a and b are fixed and the blocks may move. Discovery reads
    the graph both ways if ``met`` says that the choice came up.
    """

    inside: bool
    met: bool = False


YIELDING: ContextVar[Yielding] = ContextVar("YIELDING")
"""The choice for the time of one reading of a graph; by default the blocks are fixed."""


def multiply(*factors: Axis) -> Axis:
    """The flattened product of axes, outermost first; see `Yielding` for concatenations in it."""
    product: list[Segment] = [()]
    for factor in map(resolve, factors):
        if product != [()]:
            factor = _lump(pin(factor, BLOCKED) if _yields(product, factor) else factor)
        if len(factor) == 1:
            product = [(*segment, *factor[0]) for segment in product]
        else:
            product = [
                (*copy, *inner) for outer in product for copy in _copies(outer) for inner in factor
            ]
    return tuple(product)


def concat(axes: Iterable[Axis]) -> Axis:
    """The concatenation of axes."""
    return tuple(segment for axis in axes for segment in resolve(axis))


def pin(axis: Axis, reason: str) -> Axis:
    """Fix every atom of an axis that is still free, and return the axis."""
    for atom in atoms(axis):
        if atom.free:
            atom.reason = reason
    return resolve(axis)


def one(atom: Atom) -> Axis:
    """An axis of one atom; length one needs none."""
    return ((),) if atom.size == 1 else ((atom,),) if atom.size else ()


def _meaning(atom: Atom) -> Axis:
    """What an atom is bound to in the end, or itself; the way there is remembered."""
    if atom.settled() or atom.bound is None:
        return one(atom)
    atom.bound = resolve(atom.bound)
    return atom.bound


def _yields(outer: Axis | list[Segment], factor: Axis) -> bool:
    """Whether a concatenation is fixed so that the blocks whose inside it is can move."""
    if len(factor) < 2 or not _moves(factor) or not _moves(outer):
        return False
    choice = YIELDING.get(Yielding(inside=False))
    choice.met = True
    return choice.inside


def _moves(segments: Iterable[Segment]) -> bool:
    return any(atom.free for segment in segments for atom in segment)


def _lump(axis: Axis) -> Axis:
    """A concatenation in which nothing moves, as one atom, which may be an inner factor.

    It is pinned even if every part is uniform, since the parts may differ.
    """
    everything = [atom for segment in axis for atom in segment]
    if len(axis) < 2 or any(atom.free for atom in everything):
        return axis
    return fixed(size(axis), next((atom.reason for atom in everything if atom.reason), BLOCKED))


def _copies(outer: Segment) -> list[Segment]:
    pin((outer,), BLOCKED)
    return [()] * math.prod(atom.size for atom in outer)
