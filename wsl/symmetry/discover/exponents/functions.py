"""Functions of one variable, entry by entry, told by what they do to a factor.

    f(s x) = s^degree f(x)  for s > 0
    f(-x) = (-1)^parity f(x)
    linear: f(a x + b y) = a f(x) + b f(y)

``degree`` or ``parity`` None: there is none, so that the factor must be one. Degree and parity 0:
the factor disappears. Each of these is one line of calculus; where bounds or powers are arguments
they decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple


class ScalarFunction(NamedTuple):
    """Degree, parity, and whether the function is linear."""

    degree: Fraction | None = None
    parity: int | None = None
    linear: bool = False

    def factor(self, kind: str) -> Fraction | None:
        """By what an exponent is multiplied; None where it must vanish."""
        if kind == "linear":
            return Fraction(1) if self.linear else None
        if kind == "sign":
            return None if self.parity is None else Fraction(self.parity)
        return self.degree


FunctionOf = Callable[[Mapping[str, Any]], ScalarFunction]
"""A function that depends on the other arguments of its operation."""

ONE, ZERO = Fraction(1), Fraction(0)
NONE = ScalarFunction()
LINEAR = ScalarFunction(ONE, 1, True)
POSITIVE = ScalarFunction(ONE)
ODD = ScalarFunction(None, 1)
EVEN = ScalarFunction(None, 0)
ABS = ScalarFunction(ONE, 0)
SQUARE = ScalarFunction(2 * ONE, 0)
ROOT = ScalarFunction(ONE / 2)
INVERSE_ROOT = ScalarFunction(-ONE / 2)
RECIPROCAL = ScalarFunction(-ONE, 1)
SIGN = ScalarFunction(ZERO, 1)
POSITION = ScalarFunction(ZERO)
"""Which entry is the largest, or above zero, does not depend on a positive factor."""
BLIND = ScalarFunction(ZERO, 0)
"""Whether an entry is zero does not depend on any factor."""


def power(arguments: Mapping[str, Any]) -> ScalarFunction:
    """x^n for a number n."""
    n = arguments.get("exponent")
    if isinstance(n, bool) or not isinstance(n, (int, float)) or not math.isfinite(n):
        return NONE
    return ScalarFunction(Fraction(n), int(n) % 2 if n == int(n) else None, n == 1)


def bounded(low: str, high: str, default: Mapping[str, Any] | None = None) -> FunctionOf:
    """Clipped to an interval: odd if that is symmetric, of degree one if it is a half-line that
    begins at zero.
    """

    def function(arguments: Mapping[str, Any]) -> ScalarFunction:
        given = {**(default or {}), **arguments}
        a, b = given.get(low), given.get(high)
        if (a, b) in ((0, None), (None, 0)):
            return POSITIVE
        if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
            return NONE
        return ODD if a == -b else NONE

    return function


def against_zero(parity: int | None) -> FunctionOf:
    """A comparison with zero does not see a positive factor."""

    def function(arguments: Mapping[str, Any]) -> ScalarFunction:
        other = arguments.get("other")
        zero = isinstance(other, (int, float)) and other == 0
        return ScalarFunction(ZERO, parity) if zero else NONE

    return function


def threshold(arguments: Mapping[str, Any]) -> ScalarFunction:
    """x above the threshold, a value below: ReLU if both are zero."""
    return POSITIVE if arguments.get("threshold") == arguments.get("value") == 0 else NONE


def finite(arguments: Mapping[str, Any]) -> ScalarFunction:
    """Infinities become numbers, which have no scale; by default plus and minus the same."""
    replaced = any(arguments.get(name) for name in ("nan", "posinf", "neginf"))
    return NONE if replaced else ODD
