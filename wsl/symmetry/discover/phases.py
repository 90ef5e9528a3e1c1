"""Phases: a bias may be shifted by half periods of a sine, if the next weights flip their sign.

    sin(z + k pi) = (-1)^k sin z
    z = omega (W x + b):    b -> b + k pi / omega    gives    sin z -> (-1)^k sin z

Shamsian et al. (2024), arXiv 2402.04081. A weight reaches a sine with the coefficient by which it
was multiplied on the way: sums, biases, negations, reshapes and numbers as factors are followed, as
the unit rules tell. A weight that is also used in any other way has no phase. The smallest
coefficient is omega, and all others must be multiples of it. Whether the flips can be undone is for
the equations of signs to say, where each such weight is one more unknown, numbered from -1 down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from wsl.symmetry.discover.exponents import Constraint, LinearForm, OpConstraints

Shift = dict[int, float]
"""Coefficients of the weights that are added into a value."""


class Phases(NamedTuple):
    """The frequency of each weight that may shift, and which unknowns flip which function, by the
    number of the operation and of the constraint.
    """

    omegas: dict[int, float]
    flips: dict[tuple[int, int], LinearForm]


def phases(unknowns: int, ops: Sequence[OpConstraints]) -> Phases:
    """Read all phases of a graph."""
    paths = _Paths(unknowns)
    for number, op in enumerate(ops):
        for i, constraint in enumerate(op.constraints):
            passed = paths.through(op, constraint)
            if op.rule.periodic:
                paths.arrive((number, i), passed)
            else:
                paths.leave(op, constraint, passed)
    omegas = dict(_omegas(paths.arrivals, paths.barred))
    return Phases(omegas, {at: _flips(shift, omegas) for at, shift in paths.arrivals.items()})


class _Paths:
    """How weights were added into values so far.

    ``shifts`` tells it of each exponent's value, ``arrivals`` of the arguments of sines; a weight
    that is ``barred`` went another way too.
    """

    def __init__(self, unknowns: int) -> None:
        self.shifts: dict[int, Shift] = {number: {number: 1.0} for number in range(unknowns)}
        self.arrivals: dict[tuple[int, int], Shift] = {}
        self.barred: set[int] = set()

    def through(self, op: OpConstraints, constraint: Constraint) -> Shift:
        """What the operands of one constraint bring to its results."""
        passed: Shift = {}
        for exponent, factor in _coefficients(op, constraint):
            here = self.shifts.get(exponent, {})
            if factor is None:
                self.barred |= here.keys()
            for weight, coefficient in here.items():
                passed[weight] = passed.get(weight, 0.0) + (factor or 0.0) * coefficient
        return passed

    def arrive(self, at: tuple[int, int], passed: Shift) -> None:
        """What the argument of a sine holds."""
        self.arrivals[at] = {weight: c for weight, c in passed.items() if c}

    def leave(self, op: OpConstraints, constraint: Constraint, passed: Shift) -> None:
        """What the results of one constraint hold."""
        for output, exponent in constraint.results:
            if op.floating[output]:
                self.shifts[exponent] = passed


def _coefficients(op: OpConstraints, constraint: Constraint) -> Iterator[tuple[int, float | None]]:
    """Each exponent with the number by which its value is multiplied; None where it is used in
    another way.
    """
    alone = not (op.overwrites or constraint.tied or constraint.folded)
    known = op.rule.coefficients(op, constraint) if alone else {}
    for term in constraint.terms:
        yield term.exponent, known.get(term.argument)
    for _, exponent in constraint.tied:
        yield exponent, None


def _omegas(
    arrivals: dict[tuple[int, int], Shift], barred: set[int]
) -> Iterator[tuple[int, float]]:
    for weight in sorted({weight for shift in arrivals.values() for weight in shift} - barred):
        reached = [abs(shift[weight]) for shift in arrivals.values() if weight in shift]
        omega = min(reached)
        if all(abs(c / omega - round(c / omega)) < 1e-12 * c / omega for c in reached):
            yield weight, omega


def _flips(shift: Shift, omegas: dict[int, float]) -> LinearForm:
    odd = {
        weight for weight in shift if weight in omegas and round(shift[weight] / omegas[weight]) % 2
    }
    return {-1 - weight: Fraction(1) for weight in odd}
