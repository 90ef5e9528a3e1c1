"""Functions of one variable, entry by entry, told by what they do to a factor.

    f(s x) = s^degree f(x)  for s > 0          f(-x) = (-1)^parity f(x)          linear: f(a x + b
        y) = a f(x) + b f(y)

``degree`` or ``parity`` None: there is none, so that the factor must be one. Degree and parity 0:
the factor disappears. An operation without a row has neither. Most of these are one line of
calculus; where bounds or powers are arguments they decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple


class Function(NamedTuple):
    """Degree, parity, and whether the function is linear."""

    degree: Fraction | None = None
    parity: int | None = None
    linear: bool = False

    def factor(self, kind: str) -> Fraction | None:
        """By what a charge is multiplied; None where it must vanish."""
        if kind == "linear":
            return Fraction(1) if self.linear else None
        if kind == "sign":
            return None if self.parity is None else Fraction(self.parity)
        return self.degree


ONE, ZERO = Fraction(1), Fraction(0)
LINEAR = Function(ONE, 1, True)
POSITIVE = Function(ONE)
ODD = Function(None, 1)
EVEN = Function(None, 0)
ABS = Function(ONE, 0)
SQUARE = Function(2 * ONE, 0)
INVERSE_ROOT = Function(-ONE / 2)
NONE = Function()


def power(arguments: Mapping[str, Any]) -> Function:
    """x^n for a number n."""
    n = arguments.get("exponent")
    if isinstance(n, bool) or not isinstance(n, (int, float)) or not math.isfinite(n):
        return NONE
    return Function(Fraction(n), int(n) % 2 if n == int(n) else None, n == 1)


def bounded(low: str, high: str) -> Callable[[Mapping[str, Any]], Function]:
    """Clipped to an interval: odd if that is symmetric, of degree one if it is a half-line that
    begins at zero.
    """

    def function(arguments: Mapping[str, Any]) -> Function:
        a, b = arguments.get(low), arguments.get(high)
        if (a, b) in ((0, None), (None, 0)):
            return POSITIVE
        return (
            ODD if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == -b else NONE
        )

    return function


def against_zero(parity: int | None) -> Callable[[Mapping[str, Any]], Function]:
    """A comparison with zero does not see a positive factor."""

    def function(arguments: Mapping[str, Any]) -> Function:
        other = arguments.get("other")
        return Function(ZERO, parity) if isinstance(other, (int, float)) and other == 0 else NONE

    return function


def threshold(arguments: Mapping[str, Any]) -> Function:
    """x above the threshold, a value below: ReLU if both are zero."""
    return POSITIVE if arguments.get("threshold") == arguments.get("value") == 0 else NONE


def hard(arguments: Mapping[str, Any]) -> Function:
    """``hardtanh`` with its default bounds."""
    return bounded("min_val", "max_val")({"min_val": -1, "max_val": 1} | dict(arguments))


def _each(names: str, function: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), function)


FUNCTIONS: dict[str, Function | Callable[[Mapping[str, Any]], Function]] = {
    **_each("neg negative positive rad2deg deg2rad", LINEAR),
    **_each("relu leaky_relu", POSITIVE),
    **_each(
        "tanh sin asin atan arctan sinh asinh atanh tan erf erfinv trunc hardshrink softshrink", ODD
    ),
    **_each("cos cosh sinc", EVEN),
    "abs": ABS,
    "absolute": ABS,
    "square": SQUARE,
    "sqrt": Function(ONE / 2),
    "rsqrt": INVERSE_ROOT,
    "reciprocal": Function(-ONE, 1),
    **_each("sign sgn", Function(ZERO, 1)),
    **_each("eq ne not_equal", against_zero(0)),
    **_each("gt ge lt le greater greater_equal less less_equal", against_zero(None)),
    **_each("pow float_power", power),
    **_each("clamp clip", bounded("min", "max")),
    "clamp_min": lambda arguments: POSITIVE if arguments.get("min") == 0 else NONE,
    "clamp_max": lambda arguments: POSITIVE if arguments.get("max") == 0 else NONE,
    "hardtanh": hard,
    "threshold": threshold,
}


def function_of(name: str, arguments: Mapping[str, Any]) -> Function | None:
    """The function that an operation applies to each entry, if it is listed here."""
    found = FUNCTIONS.get(name)
    return found(arguments) if callable(found) else found
