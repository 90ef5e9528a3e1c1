"""What one operation relates: occurrences of the same units in its operands and its results.

The constraints of a graph are read off by `wsl.symmetry.discover.constraints`; the rules of the
operations turn them into equations.
"""

from __future__ import annotations

from typing import NamedTuple


class ExponentTerm(NamedTuple):
    """An exponent that an operand brings, by number, and where its units stand in that operand.

    ``index`` is the place in an argument that is a list, ``segment`` the part of an axis that is a
    concatenation.
    """

    argument: str
    index: int
    axis: int
    segment: int
    exponent: int


class Constraint(NamedTuple):
    """Exponents of the same units: terms of the operands, and in ``results`` pairs of an output and
    its exponent.

    An operand may hold these units in several segments of one axis, which the operation treats
    alike: all but the first are ``tied`` to it. If it holds them on several axes, it is ``folded``:
    the terms do not tell the exponent of one entry.
    """

    terms: tuple[ExponentTerm, ...]
    results: tuple[tuple[int, int], ...]
    tied: tuple[tuple[int, int], ...] = ()
    folded: bool = False

    def of(self, *arguments: str) -> list[int]:
        """Exponents that come from some arguments."""
        return [term.exponent for term in self.terms if term.argument in arguments]

    def without(self, *arguments: str) -> Constraint:
        """The same without the terms of some arguments."""
        return self._replace(
            terms=tuple(term for term in self.terms if term.argument not in arguments)
        )


class UnknownExponent(NamedTuple):
    """The exponent that is asked for: that of the ``nth`` moving atom on an axis of a weight."""

    tensor: str
    axis: int
    nth: int
