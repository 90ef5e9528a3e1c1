"""Unit rules: how scaling exponents pass through the classes of operations.

    carry       entries of one tensor in other places, or of several that are alike
    pick        entries at positions that another tensor holds
    separately  f_1(x) f_2(y) .., where each factor is homogeneous, odd or even by itself
    joint       f(s x, s y) = s^degree f(x, y)
    added       x + y + .. + x y ..        product    x y / z, entry by entry or contracted
    chosen      each entry is that of one operand
    reduction   a function of many entries, such as a sum, a norm or a maximum

Each constructor returns a `UnitRule` for the row of an operation. Fused layers have their own rules
beside their axes rules. `VANISH` says that units cannot be scaled: exp(s x) is no function of s and
exp(x) that the next operation could undo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wsl.symmetry.discover.exponents.constraint import Constraint
from wsl.symmetry.discover.exponents.equations import Exponents, OpConstraints, UnitRule
from wsl.symmetry.discover.exponents.functions import (
    LINEAR,
    NONE,
    POSITIVE,
    FunctionOf,
    ScalarFunction,
)
from wsl.symmetry.discover.exponents.kernel import LinearForm, plus


def _vanish(e: Exponents, op: OpConstraints) -> None:
    for constraint in op.constraints:
        e.forbid(constraint)


def _ignore(_: Exponents, __: OpConstraints) -> None:
    """The result does not depend on the operands' entries."""


def _carry(e: Exponents, op: OpConstraints) -> None:
    for constraint in op.constraints:
        e.carry(constraint)


def _unchanged(_: OpConstraints, constraint: Constraint) -> dict[str, float | None]:
    return {constraint.terms[0].argument: 1.0} if len(constraint.terms) == 1 else {}


def _all_zero(e: Exponents, op: OpConstraints) -> bool:
    tensors = op.tensors()
    return len(tensors) == 1 and e.is_zero(tensors[0])


VANISH = UnitRule(_vanish)
IGNORE = UnitRule(_ignore)
CARRY = UnitRule(_carry, _unchanged, _all_zero)


def depending(rule: Callable[[Mapping[str, Any]], UnitRule]) -> UnitRule:
    """A rule that the operation's arguments choose."""
    return UnitRule(
        lambda e, op: rule(op.arguments).equations(e, op),
        lambda op, constraint: rule(op.arguments).coefficients(op, constraint),
    )


def folding(equations: Callable[[Exponents, OpConstraints], None]) -> UnitRule:
    """A rule that understands units on several axes of one operand, like recurrent weights."""
    return UnitRule(equations, folds=True)


def entrywise(
    function: ScalarFunction | FunctionOf,
    *,
    coefficient: float | None = None,
    periodic: bool = False,
) -> UnitRule:
    """A function of each entry of one tensor; none where bounds or powers are tensors too."""

    def equations(e: Exponents, op: OpConstraints) -> None:
        if len(op.tensors()) > 1:
            _vanish(e, op)
            return
        known = function if isinstance(function, ScalarFunction) else function(op.arguments)
        for constraint in op.constraints:
            total = e.total([term.exponent for term in constraint.terms])
            e.give(constraint, e.through(known, total))

    return UnitRule(equations, lambda *_: {"self": coefficient}, periodic=periodic)


def separately(**functions: ScalarFunction) -> UnitRule:
    """A product of functions of one operand each, by argument; others must have no exponent."""

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            if e.kind == "linear" and len(constraint.terms) > 1:
                e.forbid(constraint)
                continue
            form: LinearForm = {}
            for term in constraint.terms:
                function = functions.get(term.argument, NONE)
                form = plus(form, e.through(function, e.use(term.exponent)))
            e.give(constraint, form)

    return UnitRule(equations)


def joint(function: ScalarFunction, *, odd: str = "", blind: str = "") -> UnitRule:
    """A function of two operands, of some degree where both are scaled alike.

    Signs of both change alike too, by the function's parity; or else that of the operand ``odd``
    passes alone, and one that the operation is ``blind`` to is free.
    """

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            if e.kind == "sign" and odd:
                for term in constraint.without(odd, blind).terms:
                    e.vanish(e.use(term.exponent))
                e.give(constraint, e.total(constraint.of(odd)))
                continue
            form = _equal(e, _addends(e, op, constraint, names=["self", "other"]))
            e.give(constraint, e.through(function, form))

    return UnitRule(equations)


def picked(*positions: str) -> UnitRule:
    """Entries at positions that other operands hold; those must have no exponent."""

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            choosing = constraint.of(*positions)
            # Where each unit reads another entry, no matrix commutes with the reading.
            if not constraint.results or (choosing and e.kind == "linear"):
                e.forbid(constraint)
                continue
            for exponent in choosing:
                e.vanish(e.use(exponent))
            e.carry(constraint.without(*positions))

    return UnitRule(equations)


def join(axis: Callable[[int, Mapping[str, Any]], int | None]) -> UnitRule:
    """Tensors side by side: units on another axis than the joined one are the same in all.

    ``axis`` tells which one is joined, by the rank of the tensors and the other arguments.
    """

    def equations(e: Exponents, op: OpConstraints) -> None:
        tensors = op.arguments["tensors"]
        for constraint in op.constraints:
            e.carry(constraint)
            there = {term.index for term in constraint.terms}
            length = len(tensors[min(there)])
            rest = [t for i, t in enumerate(tensors) if i not in there and len(t) == length]
            if constraint.terms[0].axis != axis(length, op.arguments) and not all(
                map(e.is_zero, rest)
            ):
                e.forbid(constraint)

    return UnitRule(equations)


def product(factors: str, *, divisors: str = "", biased: bool = False) -> UnitRule:
    """A product of operands, entry by entry or contracted, and perhaps a bias."""
    return added("bias" if biased else "", factors=factors, divisors=divisors)


def added(
    operands: str,
    *,
    factors: str = "",
    divisors: str = "",
    coefficients: Callable[[OpConstraints, Constraint], dict[str, float | None]] | None = None,
) -> UnitRule:
    """A sum of operands and of one product, entry by entry or contracted."""
    names, over, under = operands.split(), factors.split(), divisors.split()

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            form = _product(e, constraint, over, divisors=under)
            if not constraint.results:
                # Units that are summed: what the factors bring must cancel.
                e.vanish(form)
                continue
            forms = [form] if over else []
            e.give(constraint, _equal(e, [*forms, *_addends(e, op, constraint, names=names)]))

    passed = coefficients or (lambda *_: {"bias": 1.0} if "bias" in names else {})
    return UnitRule(equations, passed)


def chosen(operands: str, *, by: str = "", function: ScalarFunction = LINEAR) -> UnitRule:
    """Each entry is that of one operand, or a sum of some; which one is told by another operand, or
    by size. A number among the operands must be zero, which has every exponent.
    """
    names, choosers = operands.split(), by.split()

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            choosing = constraint.of(*choosers)
            if not constraint.results or (choosing and e.kind == "linear"):
                e.forbid(constraint)
                continue
            for exponent in choosing:
                e.vanish(e.use(exponent))
            forms = _addends(e, op, constraint, names=names)
            e.give(constraint, _equal(e, [e.through(function, form) for form in forms]))

    return UnitRule(equations)


def reduction(
    *functions: ScalarFunction, blind: Sequence[str] = (), zero: bool = False
) -> UnitRule:
    """A function of many entries, one for each output; further outputs are positions.

    It is ``blind`` to the kinds of symmetry that do not need the units along which it runs to be
    alike: a norm sees no sign of any single entry.
    """

    def equations(e: Exponents, op: OpConstraints) -> None:
        for constraint in op.constraints:
            form = e.total([term.exponent for term in constraint.terms])
            if not constraint.results and e.kind not in blind:
                e.vanish(form)
            for output, function in enumerate(functions if constraint.results else ()):
                e.give(constraint, e.through(function, form), output)

    return UnitRule(equations, zero=_all_zero if zero else UnitRule.zero)


LINEAR_MAP = reduction(LINEAR)
"""A mean, a running sum, a Fourier transform: linear along axes other than that of the units."""
LARGEST = reduction(POSITIVE)
WHERE = chosen("self other", by="condition")


def _product(
    e: Exponents, constraint: Constraint, factors: Sequence[str], *, divisors: Sequence[str]
) -> LinearForm:
    over, under = constraint.of(*factors), constraint.of(*divisors)
    form = plus(e.total(over), e.total(under), -1)
    # A matrix passes one factor, or cancels between two that are contracted; nothing else.
    if e.kind == "linear" and (under or len(over) > (1 if constraint.results else 2)):
        for exponent in (*over, *under):
            e.vanish(e.use(exponent))
        return {}
    return form


def _addends(
    e: Exponents, op: OpConstraints, constraint: Constraint, *, names: Sequence[str]
) -> Iterator[LinearForm]:
    """Exponents of operands that are given and not zero; 0 for one that lacks the units."""
    for name in names:
        operand: Any = op.arguments.get(name)
        if operand is None or e.is_zero(operand):
            continue
        yield from map(e.use, constraint.of(name)) if constraint.of(name) else [{}]


def _equal(e: Exponents, forms: Sequence[LinearForm] | Iterator[LinearForm]) -> LinearForm:
    """One form, to which all others must be equal."""
    first, *others = [*forms] or [{}]
    for other in others:
        e.equal(first, other)
    return first
