"""Phases: sin(z + k pi) = (-1)^k sin z, so that a bias may be shifted by k pi / omega if the next
weights flip.

    z = omega (W x + b):    b -> b + k pi / omega    gives    sin z -> (-1)^k sin z    Shamsian et
        al. (2024), arXiv 2402.04081

A weight reaches a sine with the coefficient by which it was multiplied on the way: sums, biases,
negations, reshapes and numbers as factors are followed. A weight that is also used in any other way
has no phase. The smallest coefficient is omega, and all others must be multiples of it. Whether the
flips can be undone is for the equations of signs to say, where each such weight is one more
unknown, numbered from -1 down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from wsl.symmetry.discover.exponents.constraints import Event, Meeting
from wsl.symmetry.discover.exponents.kernel import Row
from wsl.symmetry.discover.exponents.table import CARRIED

Shift = dict[int, float]
"""Coefficients of the weights that are added into a value."""
_BIASED = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "bilinear",
)


class Phases(NamedTuple):
    """The frequency of each weight that may shift, and which unknowns flip which function, by event
    and meeting.
    """

    omegas: dict[int, float]
    flips: dict[tuple[int, int], Row]


def phases(unknowns: int, events: Sequence[Event]) -> Phases:
    """Read all phases of a graph."""
    shifts: dict[int, Shift] = {number: {number: 1.0} for number in range(unknowns)}
    arrivals: dict[tuple[int, int], Shift] = {}
    barred: set[int] = set()
    for number, event in enumerate(events):
        for i, meeting in enumerate(event.meetings):
            passed: Shift = {}
            for charge, factor in _factors(event, meeting):
                here = shifts.get(charge, {})
                barred |= here.keys() if factor is None else set()
                passed = {
                    w: passed.get(w, 0.0) + (factor or 0.0) * here.get(w, 0.0)
                    for w in {**passed, **here}
                }
            if event.name in ("sin", "cos"):
                arrivals[number, i] = {
                    w: coefficient for w, coefficient in passed.items() if coefficient
                }
            else:
                shifts |= {
                    charge: passed for output, charge in meeting.results if event.floating[output]
                }
    omegas = dict(_omegas(arrivals, barred))
    return Phases(omegas, {place: _flips(shift, omegas) for place, shift in arrivals.items()})


def _factors(event: Event, meeting: Meeting) -> Iterator[tuple[int, float | None]]:
    """Each charge that meets, with the number by which it is multiplied; None where the operation
    is another.
    """
    arguments = event.arguments
    other: Any = arguments.get("other")
    number = float(other) if isinstance(other, (int, float)) else None
    alpha = float(arguments.get("alpha", 1))
    known: dict[str, float | None] = {}
    if event.overwrites or meeting.tied or meeting.folded:
        known = {}
    elif event.name in CARRIED and len(meeting.terms) == 1:
        known = {meeting.terms[0].argument: 1.0}
    elif event.name in ("sin", "cos"):
        known = {"self": 1.0}
    elif event.name in ("neg", "negative"):
        known = {"self": -1.0}
    elif event.name in ("add", "sub", "subtract"):
        known = {"self": 1.0, "other": alpha if event.name == "add" else -alpha}
    elif event.name in ("mul", "multiply"):
        known = {"self": number}
    elif (
        event.name in ("div", "divide", "true_divide")
        and number
        and not arguments.get("rounding_mode")
    ):
        known = {"self": 1 / number}
    elif event.name in _BIASED:
        known = {"bias": 1.0}
    elif event.name == "addmm":
        known = {"self": float(arguments.get("beta", 1))}
    for term in meeting.terms:
        yield term.charge, known.get(term.argument)
    for _, charge in meeting.tied:
        yield charge, None


def _omegas(
    arrivals: dict[tuple[int, int], Shift], barred: set[int]
) -> Iterator[tuple[int, float]]:
    for weight in sorted({weight for shift in arrivals.values() for weight in shift} - barred):
        reached = [abs(shift[weight]) for shift in arrivals.values() if weight in shift]
        omega = min(reached)
        if all(abs(c / omega - round(c / omega)) < 1e-12 * c / omega for c in reached):
            yield weight, omega


def _flips(shift: Shift, omegas: dict[int, float]) -> Row:
    odd = {
        weight for weight in shift if weight in omegas and round(shift[weight] / omegas[weight]) % 2
    }
    return {-1 - weight: Fraction(1) for weight in odd}
