"""How charges pass through the operations of which a network is put together: one rule for each
class of them.

    rule(c, event)        c: the equations so far; event: who meets in the operation, and its
                          arguments by name

Classes: entries in other places (reshape, slice), joined tensors, sums and products, reductions.
Which operation follows which rule, functions of one variable included, is told in `charges_table`;
fused layers are in `charges_layers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wsl.symmetry.discover.exponents.constraints import Event, Meeting
from wsl.symmetry.discover.exponents.exponents import Charges
from wsl.symmetry.discover.exponents.functions import ABS, LINEAR, POSITIVE, Function
from wsl.symmetry.discover.exponents.kernel import Row, plus
from wsl.symmetry.discover.rules import is_value


def nothing(c: Charges, event: Event) -> None:
    """Every charge vanishes."""
    for meeting in event.meetings:
        c.forbid(meeting)


def ignore(c: Charges, event: Event) -> None:
    """The result does not depend on the operands' entries."""


def carry(c: Charges, event: Event) -> None:
    """Entries of one tensor in other places, or linear functions of them along other axes."""
    for meeting in event.meetings:
        c.carry(meeting)


def dropout(c: Charges, event: Event) -> None:
    """The identity, unless it is on all the same."""
    (nothing if event.arguments.get("train") else carry)(c, event)


def join(c: Charges, event: Event, along: bool) -> None:
    """Tensors side by side: units on another axis than the joined one are the same in all."""
    tensors, rank = event.arguments["tensors"], len(event.outputs[0])
    dim = event.arguments.get("dim", 0) % rank if along else None
    for meeting in event.meetings:
        c.carry(meeting)
        there = {term.index for term in meeting.terms}
        rest = [
            t
            for i, t in enumerate(tensors)
            if i not in there and len(t) == len(tensors[min(there)])
        ]
        if meeting.terms[0].axis != dim and not all(map(c.is_zero, rest)):
            c.forbid(meeting)


def polynomial(
    c: Charges, event: Event, *, added: str = "", factors: str = "", divisors: str = ""
) -> None:
    """A sum of operands and of one product, entry by entry or contracted."""
    for meeting in event.meetings:
        form = _product(c, meeting, factors.split(), divisors.split())
        if not meeting.results:
            c.vanish(form)
            continue
        addends = list(_addends(c, event, meeting, added.split()))
        if factors:
            addends.insert(0, form)
        for other in addends[1:]:
            c.equal(addends[0], other)
        c.give(meeting, addends[0] if addends else {})


def shifted(c: Charges, event: Event, sign: int) -> None:
    """x + y, where a number that is added to a weight moves the origin from which it is scaled."""
    number, alpha = event.arguments.get("other"), event.arguments.get("alpha", 1)
    if not isinstance(number, (int, float)) or (event.name == "rsub" and alpha != 1):
        polynomial(c, event, added="self other")
        return
    offset = sign * float(number * alpha)
    for meeting in event.meetings:
        if not offset:
            c.carry(meeting)
        elif len(meeting.terms) == 1 and c.kind != "linear":
            c.give(meeting, c.use(meeting.terms[0].charge, offset))
        else:
            c.forbid(meeting)


def _product(c: Charges, meeting: Meeting, factors: Sequence[str], divisors: Sequence[str]) -> Row:
    over, under = meeting.of(*factors), meeting.of(*divisors)
    form = plus(c.total(over), c.total(under), -1)
    if c.kind == "linear" and (under or len(over) > (1 if meeting.results else 2)):
        for charge in (*over, *under):
            c.vanish(c.use(charge))
        return {}
    return form


def _addends(c: Charges, event: Event, meeting: Meeting, names: Sequence[str]) -> Iterable[Row]:
    for name in names:
        operand = event.arguments.get(name)
        if operand is None or c.is_zero(operand):
            continue
        yield from map(c.use, meeting.of(name)) if meeting.of(name) else [{}]


def choose(c: Charges, event: Event, chooser: str, added: str, function: Function = LINEAR) -> None:
    """Each entry is that of one operand; which one is told by another operand, or by size."""
    for meeting in event.meetings:
        for charge in meeting.of(chooser):
            c.vanish(c.use(charge))
        forms = [c.through(function, form) for form in _addends(c, event, meeting, added.split())]
        for other in forms[1:]:
            c.equal(forms[0], other)
        c.give(meeting, forms[0] if forms else {})


def fill(c: Charges, event: Event) -> None:
    """Some entries become a number; infinity has every positive scale."""
    value = event.arguments.get("value")
    free = not is_value(value) and (
        value == 0 or (c.kind == "scale" and abs(value or 0) == float("inf"))
    )
    if free:
        choose(c, event, "mask", "self")
    else:
        nothing(c, event)


def padding(c: Charges, event: Event) -> None:
    """A border of zeros has every charge."""
    constant = event.arguments.get("mode", "constant") == "constant" and event.arguments.get(
        "value"
    )
    (nothing if constant else carry)(c, event)


def reduce(c: Charges, event: Event, function: Function, apart: bool = False) -> None:
    """A function of many entries, and perhaps their positions; ``apart``: it does not see the sign
    of any single one.
    """
    for meeting in event.meetings:
        form = c.total([term.charge for term in meeting.terms])
        if meeting.results:
            c.give(meeting, c.through(function, form), 0)
        elif not (apart and c.kind == "sign"):
            c.vanish(form)


def norm(c: Charges, event: Event) -> None:
    """(sum |x|^p)^(1/p); for p = 0 it counts."""
    p = event.arguments.get("ord", event.arguments.get("p", 2))
    if p == 0:
        nothing(c, event)
    else:
        reduce(c, event, ABS, apart=True)


def extremum(c: Charges, event: Event) -> None:
    """Of everything, or of two tensors."""
    if event.arguments.get("other") is None:
        reduce(c, event, POSITIVE)
    else:
        choose(c, event, "", "self other", POSITIVE)


def lerp(c: Charges, event: Event) -> None:
    """x + w (y - x) for a number w."""
    if is_value(event.arguments.get("weight")):
        nothing(c, event)
    else:
        polynomial(c, event, added="self end")


def quotient(c: Charges, event: Event) -> None:
    """x / y, unless it is rounded."""
    if event.arguments.get("rounding_mode"):
        nothing(c, event)
    else:
        polynomial(c, event, factors="self", divisors="other")
