"""`Exponents`: the equations for the exponents with which the units of a network may be scaled.

A unit symmetry multiplies entry i of every value of the graph by s_i^e, where the exponent e is a
linear form in the unknown exponents of the weights. The rule of each operation says which exponent
its result has and which forms must vanish:

    x + y       exponents are equal; an operand that lacks the units has exponent 0
    x y, W x    exponents add; over units that are summed they cancel
    f(x)        degree or parity of f times e
    sum_i x_i   e = 0 over the summed units

    scale       s > 0, rational exponents
    sign        s in {-1, 1}, exponents modulo two
    linear      s in GL(n), exponents of vectors (1) and covectors (-1): products along the units
                and functions that are not linear force 0

The equations are sufficient for f_{g.theta} = f_theta. An operation that is not understood forces
0: sound, not complete.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from wsl.symmetry.discover.axes import Value, is_value
from wsl.symmetry.discover.exponents.constraint import Constraint
from wsl.symmetry.discover.exponents.functions import ScalarFunction
from wsl.symmetry.discover.exponents.kernel import LinearForm, plus


class Exponents:
    """The equations of one kind of symmetry while the graph is read in order.

    ``order`` lists the unknowns as they are used; ``offsets`` are constants that the network adds
    to a weight before all else. ``phases`` are further unknowns that flip the sign of a sine, by
    the number of the operation and of the constraint.
    """

    def __init__(
        self, kind: str, unknowns: int, phases: Mapping[tuple[int, int], LinearForm] | None = None
    ) -> None:
        self.kind = kind
        self.phases = phases or {}
        self.equations: list[LinearForm] = []
        self.offsets: dict[int, float] = {}
        self.order: dict[int, None] = {}
        self.zeros: set[int] = set()
        self._forms: dict[int, LinearForm] = {n: {n: Fraction(1)} for n in range(unknowns)}
        # Values that hold entries of a weight as they are, by the number of that weight's exponent.
        self._raw: dict[int, int] = {number: number for number in range(unknowns)}

    def use(self, exponent: int, offset: float = 0.0) -> LinearForm:
        """The form of an exponent, where the value plus ``offset`` is what the operation multiplies
        or adds.
        """
        form = self._forms.get(exponent, {})
        self.order.update(dict.fromkeys(form))
        number = self._raw.get(exponent)
        if number is None:
            consistent = not offset
        else:
            # A weight is scaled about one origin only, whatever reads it.
            consistent = self.offsets.setdefault(number, offset) == offset
        if consistent:
            return form
        self.vanish(form)
        return {}

    def total(self, exponents: Sequence[int]) -> LinearForm:
        """The sum of exponents."""
        form: LinearForm = {}
        for exponent in exponents:
            form = plus(form, self.use(exponent))
        return form

    def vanish(self, form: LinearForm) -> None:
        """This form must be zero."""
        if form:
            self.equations.append(form)

    def equal(self, a: LinearForm, b: LinearForm) -> None:
        """These forms must be equal."""
        self.vanish(plus(a, b, -1))

    def through(self, function: ScalarFunction, form: LinearForm) -> LinearForm:
        """The exponent of a function of one variable."""
        factor = function.factor(self.kind)
        if factor is None:
            self.vanish(form)
            return {}
        return {number: value * factor for number, value in form.items() if factor}

    def give(self, constraint: Constraint, form: LinearForm, *outputs: int) -> None:
        """The exponent of results: of all of them, or of some outputs."""
        for output, exponent in constraint.results:
            if not outputs or output in outputs:
                self._forms[exponent] = form

    def tie(self, constraint: Constraint) -> None:
        """Segments that the operation treats alike have one exponent."""
        for first, other in constraint.tied:
            self.equal(self.use(first), self.use(other))

    def carry(self, constraint: Constraint) -> None:
        """Results are the entries of the operands, in other places."""
        exponents = [term.exponent for term in constraint.terms]
        if len(exponents) == 1:
            (only,) = exponents
            self.give(constraint, self._forms.get(only, {}))
            if only in self._raw:
                self._raw |= {exponent: self._raw[only] for _, exponent in constraint.results}
            return
        forms = [self.use(exponent) for exponent in exponents] or [{}]
        for form in forms[1:]:
            self.equal(forms[0], form)
        self.give(constraint, forms[0])

    def forbid(self, constraint: Constraint) -> None:
        """Nothing is known of these units: their exponents vanish."""
        for term in constraint.terms:
            self.vanish(self.use(term.exponent))
        self.give(constraint, {})

    def is_zero(self, value: Any) -> bool:
        """Whether an operand is zero everywhere, so that it has every exponent."""
        return id(value) in self.zeros if isinstance(value, tuple) else value == 0

    def flip(self, number: int, op: OpConstraints) -> None:
        """Half a turn of a phase flips the sign of the sine that it reaches."""
        for i, constraint in enumerate(op.constraints):
            if flips := self.phases.get((number, i)):
                for _, exponent in constraint.results:
                    self._forms[exponent] = plus(self._forms.get(exponent, {}), flips)

    def finish(self, op: OpConstraints) -> None:
        """What holds for every operation: integers have no exponent, and what is overwritten keeps
        its own.
        """
        for constraint in op.constraints:
            for output, exponent in constraint.results:
                form = self._forms.get(exponent, {})
                if not op.floating[output]:
                    self.vanish(form)
                    self._forms[exponent] = {}
                elif op.overwrites:
                    before = [self.use(term) for term in constraint.of(op.overwrites)] or [{}]
                    for old in before:
                        self.equal(form, old)


def _nothing_passes(_: OpConstraints, __: Constraint) -> Mapping[str, float | None]:
    return {}


def _unknown_values(_: Exponents, __: OpConstraints) -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class UnitRule:
    """What an operation does to the numbers by which units are multiplied.

    ``equations(e, op)`` writes the equations and gives the exponents of the results.

    ``coefficients(op, constraint)`` are the numbers with which operands are added into the result,
    by argument: by them a shift of a phase is passed on. An argument without one does not pass it.
    ``zero(e, op)`` tells whether the result is zero everywhere. ``periodic`` functions change their
    sign when half a period is added; with ``separate``, segments of one operand play different
    parts; with ``folds``, units on several axes of one operand are understood.
    """

    equations: Callable[[Exponents, OpConstraints], None]
    coefficients: Callable[[OpConstraints, Constraint], Mapping[str, float | None]] = (
        _nothing_passes
    )
    zero: Callable[[Exponents, OpConstraints], bool] = _unknown_values
    periodic: bool = False
    separate: bool = False
    folds: bool = False


class OpConstraints(NamedTuple):
    """One operation of the graph: its rule, its arguments by name, and its constraints.

    ``floating`` tells which outputs hold real or complex numbers, ``overwrites`` names the argument
    that the operation writes into.
    """

    rule: UnitRule
    arguments: Mapping[str, Any]
    outputs: Sequence[Value]
    floating: Sequence[bool]
    constraints: tuple[Constraint, ...]
    overwrites: str | None = None

    def tensors(self) -> list[Value]:
        """The arguments that are tensors."""
        return [argument for argument in self.arguments.values() if is_value(argument)]


def lacks(constraint: Constraint, value: Any, argument: str) -> bool:
    """Whether a tensor is given, but without these units."""
    return isinstance(value, tuple) and not constraint.of(argument)


def read(e: Exponents, ops: Sequence[OpConstraints], *, known: bool) -> None:
    """All equations of a graph; ``known`` says that no operation may have changed a tensor of zeros
    unseen.
    """
    known = known and not any(op.overwrites for op in ops)
    for number, op in enumerate(ops):
        if not op.rule.separate:
            for constraint in op.constraints:
                e.tie(constraint)
        op.rule.equations(e, op)
        e.flip(number, op)
        for constraint in op.constraints:
            if constraint.folded and not op.rule.folds:
                e.forbid(constraint)
        e.finish(op)
        # A zero stays zero only if nothing writes into it.
        if known and op.rule.zero(e, op):
            e.zeros |= set(map(id, op.outputs))
