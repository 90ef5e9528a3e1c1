"""Elementwise operations: axes that meet move alike, an axis of size one is broadcast and
constrains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsl.symmetry.discover.axes import Value, is_value, size
from wsl.symmetry.discover.exponents import (
    ABS,
    BLIND,
    CARRY,
    EVEN,
    INVERSE_ROOT,
    LINEAR,
    ODD,
    POSITION,
    POSITIVE,
    RECIPROCAL,
    ROOT,
    SIGN,
    SQUARE,
    VANISH,
    WHERE,
    Constraint,
    Exponents,
    OpConstraints,
    ScalarFunction,
    UnitRule,
    added,
    against_zero,
    bounded,
    chosen,
    depending,
    entrywise,
    finite,
    joint,
    power,
    separately,
    threshold,
)
from wsl.symmetry.discover.rules.row import OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import unite


def elementwise(**arguments: Any) -> Value:
    """Any function applied entry by entry."""
    return broadcast(*filter(is_value, arguments.values()))


def same(**arguments: Any) -> Value:
    """A copy, a cast, or a dropout, which is the identity in evaluation mode."""
    return next(filter(is_value, arguments.values()))


def prelu(self: Value, weight: Value, **_: Any) -> Value:
    """One slope, or one for each channel on axis 1."""
    return self if size(weight[0]) == 1 else replace(self, 1, unite(self[1], weight[0]))


def copy(self: Value, src: Value, **_: Any) -> Value:
    """Overwrite: the target moves as the source."""
    return broadcast(self, src)


def shifted(sign: int, *, reverse: bool = False) -> UnitRule:
    """x + y, where a number that is added to a weight moves the origin from which it is scaled."""
    both = added("self other")

    def equations(e: Exponents, op: OpConstraints) -> None:
        number, alpha = op.arguments.get("other"), op.arguments.get("alpha", 1)
        if not isinstance(number, (int, float)) or (reverse and alpha != 1):
            both.equations(e, op)
            return
        for constraint in op.constraints:
            _shift(e, constraint, sign * float(number * alpha))

    def coefficients(op: OpConstraints, _: Constraint) -> dict[str, float | None]:
        alpha = float(op.arguments.get("alpha", 1))
        return {} if reverse else {"self": 1.0, "other": sign * alpha}

    return UnitRule(equations, coefficients)


def _shift(e: Exponents, constraint: Constraint, offset: float) -> None:
    if not offset:
        e.carry(constraint)
    elif len(constraint.terms) == 1 and e.kind != "linear":
        e.give(constraint, e.use(constraint.terms[0].exponent, offset))
    else:
        e.forbid(constraint)


def _times(op: OpConstraints, _: Constraint) -> dict[str, float | None]:
    number = op.arguments.get("other")
    return {"self": float(number)} if isinstance(number, (int, float)) else {}


def _over(op: OpConstraints, _: Constraint) -> dict[str, float | None]:
    number = op.arguments.get("other")
    return {"self": 1 / number} if isinstance(number, (int, float)) and number else {}


def quotient(arguments: Mapping[str, Any]) -> UnitRule:
    """x / y; where it is rounded, a common factor of both cancels."""
    if arguments.get("rounding_mode"):
        return joint(BLIND)
    return added("", factors="self", divisors="other", coefficients=_over)


def fill(e: Exponents, op: OpConstraints) -> None:
    """Some entries become a number; infinity has every positive scale."""
    value = op.arguments.get("value")
    infinite = e.kind == "scale" and not is_value(value) and abs(value or 0) == float("inf")
    written = is_value(value) or (value and not infinite)
    (VANISH if written else chosen("self", by="mask")).equations(e, op)


def dropout(arguments: Mapping[str, Any]) -> UnitRule:
    """The identity, unless it is on all the same."""
    return VANISH if arguments.get("train") else CARRY


SAME = """
_to_copy alias clone contiguous detach lift_fresh lift_fresh_copy resolve_conj resolve_neg to
type_as
"""

SMOOTH = """
__and__ __or__ __xor__ acos acosh bitwise_and bitwise_not bitwise_or bitwise_xor ceil celu digamma
elu erfc exp exp2 expm1
floor gelu hardsigmoid hardswish lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2 logit
mish relu6 selu sigmoid silu softplus
"""
UNIT = {"min_val": -1, "max_val": 1}
SIGNED = ScalarFunction(POSITIVE.degree, 1)
ODD_NAMES = """
tanh asin atan arctan sinh asinh atanh tan erf erfinv trunc frac round hardshrink softshrink
"""

RULES: OpTable = {
    **row(SMOOTH, elementwise, units=VANISH),
    **row("neg negative", elementwise, units=entrywise(LINEAR, coefficient=-1.0)),
    **row("positive rad2deg deg2rad", elementwise, units=entrywise(LINEAR)),
    # Of complex numbers linear over real factors, which is what scales and signs are.
    **row("conj conj_physical real imag", elementwise, units=entrywise(LINEAR)),
    **row("complex", elementwise, units=added("real imag")),
    **row("polar", elementwise, units=separately(abs=LINEAR)),
    **row("angle", elementwise, units=entrywise(POSITION)),
    **row("relu leaky_relu", elementwise, units=entrywise(POSITIVE)),
    **row("prelu", prelu, units=separately(self=POSITIVE)),
    **row("hardtanh", elementwise, units=entrywise(bounded("min_val", "max_val", UNIT))),
    **row("clamp clip", elementwise, units=entrywise(bounded("min", "max"))),
    **row("clamp_min", elementwise, units=entrywise(bounded("min", "max"))),
    **row("clamp_max", elementwise, units=entrywise(bounded("min", "max"))),
    **row("threshold", elementwise, units=entrywise(threshold)),
    **row(ODD_NAMES, elementwise, units=entrywise(ODD)),
    **row("sin", elementwise, units=entrywise(ODD, coefficient=1.0, periodic=True)),
    **row("cos", elementwise, units=entrywise(EVEN, coefficient=1.0, periodic=True)),
    **row("cosh sinc", elementwise, units=entrywise(EVEN)),
    **row("abs absolute", elementwise, units=entrywise(ABS)),
    **row("square", elementwise, units=entrywise(SQUARE)),
    **row("sqrt", elementwise, units=entrywise(ROOT)),
    **row("rsqrt", elementwise, units=entrywise(INVERSE_ROOT)),
    **row("reciprocal", elementwise, units=entrywise(RECIPROCAL)),
    **row("pow float_power", elementwise, units=entrywise(power)),
    **row("sign sgn", elementwise, units=entrywise(SIGN)),
    **row("nan_to_num", elementwise, units=entrywise(finite)),
    **row("isfinite isinf isnan logical_not", elementwise, units=entrywise(BLIND)),
    **row(
        "logical_and logical_or logical_xor",
        elementwise,
        units=separately(self=BLIND, other=BLIND),
    ),
    **row("eq ne not_equal", elementwise, units=entrywise(against_zero(0))),
    **row(
        "gt ge lt le greater greater_equal less less_equal",
        elementwise,
        units=entrywise(against_zero(None)),
    ),
    **row("add", elementwise, units=shifted(1)),
    **row("sub subtract", elementwise, units=shifted(-1)),
    **row("rsub", elementwise, units=shifted(-1, reverse=True)),
    **row("mul multiply", elementwise, units=added("", factors="self other", coefficients=_times)),
    **row("div divide true_divide", elementwise, units=depending(quotient)),
    **row("addcmul", elementwise, units=added("self", factors="tensor1 tensor2")),
    **row("addcdiv", elementwise, units=added("self", factors="tensor1", divisors="tensor2")),
    **row("lerp", elementwise, units=chosen("self end", by="weight")),
    **row("where", elementwise, units=WHERE),
    **row("masked_fill", elementwise, units=UnitRule(fill)),
    **row("maximum minimum fmax fmin", elementwise, units=chosen("self other", function=POSITIVE)),
    **row("hypot", elementwise, units=chosen("self other", function=ABS)),
    **row("atan2 arctan2", elementwise, units=joint(SIGN, odd="self")),
    **row("fmod", elementwise, units=joint(POSITIVE, odd="self", blind="other")),
    **row("remainder", elementwise, units=joint(SIGNED)),
    **row("floor_divide", elementwise, units=joint(BLIND)),
    **row("copysign", elementwise, units=separately(self=ABS, other=SIGN)),
    **row("heaviside", elementwise, units=separately(self=POSITION)),
    **row("ldexp", elementwise, units=separately(self=LINEAR)),
    **row("xlogy", elementwise, units=separately(self=LINEAR)),
    **row("copy", copy, units=added("src")),
    **row(SAME, same, units=CARRY),
    **row("alpha_dropout dropout", same, units=depending(dropout)),
    **row("feature_alpha_dropout feature_dropout", same, units=depending(dropout)),
}
