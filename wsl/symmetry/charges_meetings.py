"""`meetings`: which units of which operands meet in each operation, read off by following its rule once more.

After discovery every axis is known. Now each *occurrence* of an atom in a value becomes an atom of its own, a charge to be
found, and the rule of the operation is followed again on these copies: the occurrences that it unites are those of the same units,
and where their atom stands in a result, there the result's units are these. So whatever a rule ties, sums, cuts or reshapes is
understood here without a second table of correspondences; what the operation does with the *values* of the units that meet is
the only thing left to say, in `charges`.

Where a rule cannot be followed again, every charge of its operands is forced to zero: sound, not complete.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wsl.symmetry.axes import Atom, Axis, Value, resolve
from wsl.symmetry.interpret import Operation, Step, follow, is_lazy, mutates
from wsl.symmetry.lazy import undecided
from wsl.symmetry.rules import Operand, is_value


class Term(NamedTuple):
    """A charge that an operand brings: in which argument, at which place of a list, on which axis."""

    argument: str
    index: int
    axis: int
    charge: int


class Meeting(NamedTuple):
    """Charges of the same units, and those that they have in the results: pairs of output and charge."""

    terms: tuple[Term, ...]
    results: tuple[tuple[int, int], ...]

    def of(self, *arguments: str) -> list[int]:
        """Charges that come from some arguments."""
        return [term.charge for term in self.terms if term.argument in arguments]


class Event(NamedTuple):
    """One operation: its name, empty where nothing is understood; and in ``overwrites`` the argument that it writes into."""

    name: str
    arguments: Mapping[str, Any]
    outputs: Sequence[Value]
    floating: Sequence[bool]
    meetings: tuple[Meeting, ...]
    overwrites: str | None


class Variable(NamedTuple):
    """An unknown charge: the ``nth`` moving atom on an axis of a tensor."""

    tensor: str
    axis: int
    nth: int


def meetings(
    weights: Mapping[str, Value], twins: Mapping[str, str], steps: Sequence[Step], written: Sequence[Value]
) -> tuple[list[Variable], list[Event]]:
    """The unknown charges of the weights, numbered from zero, and the operations in order.

    ``twins`` share one tensor; values ``written`` to buffers after the call must have no charge, nor the buffers.
    """
    reader = _Reader()
    variables: list[Variable] = []
    first: dict[str, int] = {}
    for name, value in weights.items():
        first[name] = first[twins[name]] if name in twins else reader.count
        found = reader.learn(value, value, _counter(first[name]))
        if name not in twins:
            reader.count += len(found)
            variables += (
                Variable(name, axis, [axis for axis, _ in found[:k]].count(axis)) for k, (axis, _) in enumerate(found)
            )
    events = [reader.read(step.operation) for step in steps if step.operation is not None]
    return variables, [*events, *map(reader.end, written)]


class _Reader:
    """What is known of each value of the graph: its axes, in which every charged occurrence is an atom of its own."""

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}
        self.charges: dict[Atom, int] = {}
        self.known: dict[int, set[int]] = {}
        self.count = 0

    def learn(self, recorded: Value, value: Value, charge: Callable[[Atom], int | None]) -> list[tuple[int, int]]:
        """Keep a copy of a value, with a charge for every moving atom that has one; returns pairs of axis and charge."""
        found: list[tuple[int, int]] = []

        def copy(atom: Atom, axis: int) -> Atom:
            new = atom.like(atom.size)
            number = charge(atom) if atom.free else None
            if number is not None:
                self.charges[new] = number
                found.append((axis, number))
            return new

        self.values[id(recorded)] = copied(value, copy)
        self.known[id(recorded)] = {number for _, number in found}
        return found

    def read(self, operation: Operation) -> Event:
        """Follow an operation's rule on copies of what is known."""
        target, arguments = operation.target, operation.arguments
        terms: list[tuple[Atom, Term]] = []
        again = {name: self._argument(name, argument, terms, is_lazy(target)) for name, argument in arguments.items()}
        call = dataclasses.replace(operation.call, label=lambda *_: None, between=lambda _: None)
        outputs = follow(target, again, call)
        found = [(_single(atom), term) for atom, term in terms]
        understood = outputs is not None and all(atom is not None for atom, _ in found)
        classes: dict[Atom | None, list[Term]] = {}
        for atom, term in found:
            classes.setdefault(atom, []).append(term)
        results: dict[Atom | None, list[tuple[int, int]]] = {atom: [] for atom in classes}
        for i, recorded in enumerate(operation.outputs):
            self._learn_output(i, recorded, outputs[i] if outputs is not None else recorded, results)
        written = next(iter(arguments)) if mutates(target) else None
        met = tuple(Meeting(tuple(classes[atom]), tuple(results[atom])) for atom in classes)
        name = target.overloadpacket.__name__.removesuffix("_" if written else "") if understood else ""
        return Event(name, arguments, operation.outputs, operation.floating, met, written)

    def end(self, value: Value) -> Event:
        """An event that nothing is known of."""
        charges = sorted(self.known.get(id(value), ()))
        return Event("", {}, (), (), tuple(Meeting((Term("", 0, 0, charge),), ()) for charge in charges), None)

    def _argument(self, name: str, argument: Any, terms: list[tuple[Atom, Term]], lazy: bool) -> Any:
        if is_value(argument):
            return self._operand(argument, Term(name, 0, 0, 0), terms, lazy)
        if isinstance(argument, (list, tuple)):
            return [
                self._operand(part, Term(name, i, 0, 0), terms, lazy) if is_value(part) else part
                for i, part in enumerate(argument)
            ]
        return argument

    def _operand(self, recorded: Value, term: Term, terms: list[tuple[Atom, Term]], lazy: bool) -> Operand:
        value = self.values.get(id(recorded), recorded)
        if not lazy:
            value = tuple(map(resolve, value))

        def copy(atom: Atom, axis: int) -> Atom:
            new = atom.like(atom.size)
            if atom in self.charges:
                terms.append((new, term._replace(axis=axis, charge=self.charges[atom])))
            return new

        start = len(terms)
        result = Operand(copied(value, copy))
        lost = self.known.get(id(recorded), set()) - {term.charge for _, term in terms[start:]}
        terms += [(_broken(), term._replace(charge=number)) for number in sorted(lost)]
        return result

    def _learn_output(
        self, i: int, recorded: Value, value: Value, results: Mapping[Atom | None, list[tuple[int, int]]]
    ) -> None:
        mine: dict[Atom, int] = {}

        def charge(atom: Atom) -> int | None:
            if atom in results and atom not in mine:
                mine[atom], self.count = self.count, self.count + 1
                results[atom].append((i, mine[atom]))
            return mine.get(atom)

        self.learn(recorded, value, charge)


def copied(value: Value, copy: Callable[[Atom, int], Atom]) -> Value:
    """The value with each occurrence of an atom replaced by ``copy(atom, axis)``; undecided factors stay so, together."""
    again: dict[int, dict[int, Any]] = {}

    def axis_of(i: int, axis: Axis) -> Axis:
        factor = undecided(axis)
        if factor is None:
            return tuple(tuple(copy(atom, i) for atom in segment) for segment in resolve(axis))
        if id(factor.siblings) not in again:
            source = tuple(tuple(copy(atom, i) for atom in segment) for segment in resolve(factor.source))
            again[id(factor.siblings)] = factor.again(source)
        return ((again[id(factor.siblings)][factor.place],),)

    return tuple(axis_of(i, axis) for i, axis in enumerate(value))


def _single(atom: Atom) -> Atom | None:
    """The one atom that an atom is bound to now, if it is one."""
    axis = resolve(((atom,),))
    return axis[0][0] if len(axis) == 1 == len(axis[0]) else None


def _broken() -> Atom:
    """An atom that is no atom any more: its units were cut, so that nothing is known of their charge."""
    atom = Atom(1)
    atom.bound = ()
    return atom


def _counter(start: int) -> Callable[[Atom], int]:
    numbers = iter(range(start, start + 10**9))
    return lambda _: next(numbers)
