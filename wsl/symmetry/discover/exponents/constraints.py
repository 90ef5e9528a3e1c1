"""Who meets in an operation: the units of several operands that a rule unites, with the charges
that each of them brings.

These are the words between `charges_reader`, which finds them in the graph, and the rules of
charges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wsl.symmetry.discover.axes import Value


class Term(NamedTuple):
    """A charge that an operand brings: in which argument, at which place of a list, on which axis,
    in which segment.
    """

    argument: str
    index: int
    axis: int
    segment: int
    charge: int


class Meeting(NamedTuple):
    """Charges of the same units, and those that they have in the results: pairs of output and
    charge.

    An operand may hold these units in several segments of one axis, which the operation treats
    alike: all but the first are ``tied`` to it. If it holds them on several axes, it is ``folded``:
    the charges of one entry are not told by the terms.
    """

    terms: tuple[Term, ...]
    results: tuple[tuple[int, int], ...]
    tied: tuple[tuple[int, int], ...] = ()
    folded: bool = False

    def of(self, *arguments: str) -> list[int]:
        """Charges that come from some arguments."""
        return [term.charge for term in self.terms if term.argument in arguments]


class Event(NamedTuple):
    """One operation: its name, empty where nothing is understood; and in ``overwrites`` the
    argument that it writes into.
    """

    name: str
    arguments: Mapping[str, Any]
    outputs: Sequence[Value]
    floating: Sequence[bool]
    meetings: tuple[Meeting, ...]
    overwrites: str | None


class Variable(NamedTuple):
    """An unknown charge: the ``nth`` moving atom on an axis of a tensor."""

    tensor: str
    axis: int
    nth: int
