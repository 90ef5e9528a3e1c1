"""Factors of an axis that stay undecided until an operation shows whether they move apart.

A fused projection of queries, keys and values is reshaped (24) -> (3 2 4). If ``unbind`` follows,
the axis is a concatenation of three axes (2 4), and each may move on its own. If an operation
follows that looks across the 3, it is one product, and the three move alike. Which of the two it is
shows only later, so the factors stay undecided until an operation takes one position of the first
(`take`) or reads them otherwise (`resolve` settles them as a product). Transposes and elementwise
functions pass undecided factors on; every other rule gets them settled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wsl.symmetry.discover.axes import Atom, Axis, Value, fresh, multiply, resolve, size
from wsl.symmetry.discover.unify import narrow, unite


class Undecided(Atom):
    """A factor of ``source``, outermost ``place`` 0; siblings are all factors longer than one."""

    __slots__ = ("place", "siblings", "sizes", "source")

    def __init__(self, source: Axis, sizes: Sequence[int], place: int) -> None:
        super().__init__(sizes[place])
        self.source, self.sizes, self.place = source, sizes, place
        self.siblings: list[Undecided] = [self]

    def again(self, source: Axis) -> dict[int, Undecided]:
        """The same factors, by place, of another source."""
        copies = [Undecided(source, self.sizes, sibling.place) for sibling in self.siblings]
        for copy in copies:
            copy.siblings = copies
        return {copy.place: copy for copy in copies}

    def settled(self) -> bool:
        """Being read decides: the factors become a product of new atoms."""
        if self.bound is None:
            self._settle()
        return False

    def _settle(self) -> None:
        factors = [fresh(n) for n in self.sizes]
        for sibling in self.siblings:
            sibling.bound = factors[sibling.place]
        unite(self.source, multiply(*factors))


def factor(source: Axis, sizes: Sequence[int]) -> list[Axis]:
    """The factors of an axis, undecided; sizes are outermost first."""
    if len(sizes) == 1:
        return [source]
    places = [Undecided(source, sizes, place) for place, n in enumerate(sizes) if n > 1]
    for place in places:
        place.siblings = places
    parts = {place.place: ((place,),) for place in places}
    return [parts.get(i, ((),)) for i in range(len(sizes))]


def undecided(axis: Axis) -> Undecided | None:
    """The undecided factor that an axis is, if it is one."""
    atom = axis[0][0] if len(axis) == 1 == len(axis[0]) else None
    return atom if isinstance(atom, Undecided) and atom.bound is None else None


def decided(axis: Axis) -> bool:
    """Whether reading an axis settles no factor that is still undecided."""
    return all(
        not isinstance(atom, Undecided) if atom.bound is None else decided(atom.bound)
        for segment in axis
        for atom in segment
    )


def take(value: Value, dim: int, position: int) -> Value:
    """The value at one position of an axis, which is dropped; the other positions may still move
    among themselves.
    """
    dim %= len(value)
    first = undecided(value[dim])
    rest = (*value[:dim], *value[dim + 1 :])
    if first is None or first.place:
        narrow(value[dim], position % size(value[dim]), 1)
        return rest
    others = _at_position(first, position % first.size)
    return tuple(others.get(id(undecided(axis)), axis) for axis in rest)


def _at_position(first: Undecided, position: int) -> dict[int, Axis]:
    """What the siblings of an outermost factor become at one of its positions, by identity."""
    length = math.prod(first.sizes[1:])
    inner = factor(narrow(first.source, position * length, length), first.sizes[1:])
    return {
        id(sibling): inner[sibling.place - 1] for sibling in first.siblings if sibling is not first
    }


def settle(value: Value) -> Value:
    """The value with its factors decided."""
    return tuple(map(resolve, value))
