"""`charges`: equations for the exponents with which the units of a network may be scaled, one rule
per class of operation.

A unit symmetry multiplies entry i of every value of the graph by s_i^e, where e, the charge, is a
linear form in the unknown charges of the weights. Every operation says which charge its result has
and which forms must vanish:

    x + y         charges equal; an operand that lacks the units has charge 0       f(x)     degree
        or parity of f times e
    x y, W x      charges add; over units that are summed they cancel               sum_i    e = 0
        over the summed units

    scale   s > 0, rational charges           sign   s in {-1, 1}, charges modulo two
    linear  s in GL(n), charges of vectors (1) and covectors (-1): products along the units and
            nonlinear functions force 0

The equations are sufficient for f_{g.theta} = f_theta. An operation without a rule forces 0: sound,
not complete. Charges are those of `meetings`; the rules are listed in `charges_table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from wsl.symmetry.discover.exponents.constraints import Event, Meeting
from wsl.symmetry.discover.exponents.functions import Function
from wsl.symmetry.discover.exponents.kernel import Row, plus


class Charges:
    """The equations of one kind of symmetry while the graph is read in order.

    ``order`` lists the unknowns as they are used; ``offsets`` are constants that the network adds
    to a weight before all else. ``phases`` are further unknowns that flip the sign of a sine:
    ``phases[number of the event, of the meeting]``.
    """

    def __init__(
        self, kind: str, unknowns: int, phases: Mapping[tuple[int, int], Row] | None = None
    ) -> None:
        self.kind = kind
        self.phases = phases or {}
        self.equations: list[Row] = []
        self.offsets: dict[int, float] = {}
        self.order: dict[int, None] = {}
        self.zeros: set[int] = set()
        self._forms: dict[int, Row] = {number: {number: Fraction(1)} for number in range(unknowns)}
        self._raw: dict[int, int] = {number: number for number in range(unknowns)}

    def use(self, charge: int, offset: float = 0.0) -> Row:
        """The form of a charge, where the value plus ``offset`` is what the operation multiplies or
        adds.
        """
        form = self._forms.get(charge, {})
        self.order.update(dict.fromkeys(form))
        number = self._raw.get(charge)
        if (number is None and offset) or (
            number is not None and self.offsets.setdefault(number, offset) != offset
        ):
            self.vanish(form)
            return {}
        return form

    def total(self, charges: Sequence[int]) -> Row:
        """The sum of charges."""
        form: Row = {}
        for charge in charges:
            form = plus(form, self.use(charge))
        return form

    def vanish(self, form: Row) -> None:
        """This form must be zero."""
        if form:
            self.equations.append(form)

    def equal(self, a: Row, b: Row) -> None:
        """These forms must be equal."""
        self.vanish(plus(a, b, -1))

    def through(self, function: Function, form: Row) -> Row:
        """The charge of a function of one variable."""
        factor = function.factor(self.kind)
        if factor is None:
            self.vanish(form)
            return {}
        return {number: value * factor for number, value in form.items() if factor}

    def give(self, meeting: Meeting, form: Row, *outputs: int) -> None:
        """The charge of results: of all of them, or of some outputs."""
        for output, charge in meeting.results:
            if not outputs or output in outputs:
                self._forms[charge] = form

    def tie(self, meeting: Meeting) -> None:
        """Segments that the operation treats alike have one charge."""
        for first, other in meeting.tied:
            self.equal(self.use(first), self.use(other))

    def carry(self, meeting: Meeting) -> None:
        """Results are the entries of the operands, in other places."""
        first, *others = (term.charge for term in meeting.terms)
        if others:
            form = self.use(first)
            for charge in others:
                self.equal(form, self.use(charge))
            self.give(meeting, form)
            return
        self.give(meeting, self._forms.get(first, {}))
        if first in self._raw:
            self._raw |= {charge: self._raw[first] for _, charge in meeting.results}

    def forbid(self, meeting: Meeting) -> None:
        """Nothing is known of these units: their charges vanish."""
        for term in meeting.terms:
            self.vanish(self.use(term.charge))
        self.give(meeting, {})

    def is_zero(self, value: Any) -> bool:
        """Whether an operand is zero everywhere, so that it has every charge."""
        return id(value) in self.zeros if isinstance(value, tuple) else value == 0

    def finish(self, event: Event) -> None:
        """What holds whatever the operation is: integers have no charge, and what is overwritten
        keeps its own.
        """
        for meeting in event.meetings:
            for output, charge in meeting.results:
                form = self._forms.get(charge, {})
                if not event.floating[output]:
                    self.vanish(form)
                    self._forms[charge] = {}
                elif event.overwrites:
                    before = [self.use(term) for term in meeting.of(event.overwrites)] or [{}]
                    for old in before:
                        self.equal(form, old)


def lacks(meeting: Meeting, value: Any, *arguments: str) -> bool:
    """Whether a tensor is given, but without these units."""
    return isinstance(value, tuple) and not meeting.of(*arguments)
