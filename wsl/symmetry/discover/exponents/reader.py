"""`meetings`: which units of which operands meet in each operation, read off by following its rule
once more.

After discovery every axis is known. Now each *occurrence* of an atom in a value becomes an atom of
its own, a charge to be found, and the rule of the operation is followed again on these copies: the
occurrences that it unites are those of the same units, and where their atom stands in a result,
there the result's units are these. So whatever a rule ties, sums, cuts or reshapes is understood
here without a second table of correspondences; what the operation does with the *values* of the
units that meet is the only thing left to say, in `charges`.

Where a rule cannot be followed again, every charge of its operands is forced to zero: sound, not
complete.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wsl.symmetry.discover.axes import Atom, Axis, Value, resolve
from wsl.symmetry.discover.exponents.constraints import Event, Meeting, Term, Variable
from wsl.symmetry.discover.interpret import Operation, Step, follow, is_lazy, mutates, operands_of
from wsl.symmetry.discover.lazy import undecided
from wsl.symmetry.discover.rules import Operand, is_value


def meetings(
    weights: Mapping[str, Value],
    twins: Mapping[str, str],
    steps: Sequence[Step],
    written: Sequence[Value],
) -> tuple[list[Variable], list[Event]]:
    """The unknown charges of the weights, numbered from zero, and the operations in order.

    ``twins`` share one tensor; values ``written`` to buffers after the call must have no charge,
    nor the buffers.
    """
    reader = _Reader()
    variables: list[Variable] = []
    first: dict[str, int] = {}
    for name, value in weights.items():
        first[name] = first[twins[name]] if name in twins else reader.count
        found = reader.learn(value, value, _counted(first[name]))
        if name not in twins:
            reader.count += len(found)
            variables += (
                Variable(name, axis, [axis for axis, _ in found[:k]].count(axis))
                for k, (axis, _) in enumerate(found)
            )
    events = [
        event
        for step in steps
        if step.operation is not None
        for event in reader.read(step.operation)
    ]
    return variables, [*events, *map(reader.end, written)]


class _Reader:
    """What is known of each value of the graph: its axes, in which every charged occurrence is an
    atom of its own.
    """

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}
        self.charges: dict[Atom, int] = {}
        self.known: dict[int, set[int]] = {}
        self.count = 0

    def learn(
        self, recorded: Value, value: Value, charge: Callable[[Atom], int | None]
    ) -> list[tuple[int, int]]:
        """Keep a copy of a value, with a charge for every moving atom that has one; returns pairs
        of axis and charge.
        """
        found: list[tuple[int, int]] = []

        def copy(atom: Atom, axis: int, _: int) -> Atom:
            new = atom.like(atom.size)
            number = charge(atom) if atom.free else None
            if number is not None:
                self.charges[new] = number
                found.append((axis, number))
            return new

        self.values[id(recorded)] = copied(value, copy)
        self.known[id(recorded)] = {number for _, number in found}
        return found

    def read(self, operation: Operation) -> Iterator[Event]:
        """Follow an operation's rule on copies of what is known; operands whose factors it decides
        are decided before.
        """
        target, arguments = operation.target, operation.arguments
        if not is_lazy(target):
            yield from map(self.decide, filter(self.undecided, operands_of(arguments)))
        call = dataclasses.replace(operation.call, label=lambda *_: None, between=lambda _: None)
        terms: list[tuple[Atom, Term]] = []
        copies: list[tuple[Value, Value]] = []
        again = {
            name: self._argument(name, argument, terms, copies)
            for name, argument in arguments.items()
        }
        outputs = follow(target, again, call)
        if decided := [old for old, new in copies if self.undecided(old) > _undecided(new)]:
            yield from map(self.decide, {id(old): old for old in decided}.values())
            yield from self.read(operation)
            return
        met = self._met(terms, operation.outputs, outputs)
        written = next(iter(arguments)) if mutates(target) else None
        name = (
            target.overloadpacket.__name__.removesuffix("_" if written else "")
            if met is not None
            else ""
        )
        yield Event(
            name, arguments, operation.outputs, operation.floating, met or _apart(terms), written
        )

    def undecided(self, recorded: Value) -> int:
        """How many axes of a value are factors that are not yet decided."""
        return _undecided(self.values.get(id(recorded), ()))

    def decide(self, recorded: Value) -> Event:
        """The value with its factors decided, which makes charges of parts equal that are now one
        axis.
        """
        terms: list[tuple[Atom, Term]] = []
        value = tuple(map(resolve, self._operand(recorded, Term("self", 0, 0, 0, 0), terms)))
        met = self._met(terms, [recorded], [value])
        return Event(
            "alias" if met is not None else "",
            {"self": recorded},
            [recorded],
            [True],
            met or _apart(terms),
            None,
        )

    def end(self, value: Value) -> Event:
        """An event that nothing is known of."""
        charges = sorted(self.known.get(id(value), ()))
        return Event(
            "",
            {},
            (),
            (),
            tuple(Meeting((Term("", 0, 0, 0, charge),), ()) for charge in charges),
            None,
        )

    def _argument(
        self,
        name: str,
        argument: Any,
        terms: list[tuple[Atom, Term]],
        copies: list[tuple[Value, Value]],
    ) -> Any:
        def copy(part: Any, index: int) -> Any:
            if not is_value(part):
                return part
            copies.append((part, self._operand(part, Term(name, index, 0, 0, 0), terms)))
            return copies[-1][1]

        if isinstance(argument, (list, tuple)) and not is_value(argument):
            return [copy(part, i) for i, part in enumerate(argument)]
        return copy(argument, 0)

    def _operand(self, recorded: Value, term: Term, terms: list[tuple[Atom, Term]]) -> Operand:
        def copy(atom: Atom, axis: int, segment: int) -> Atom:
            new = atom.like(atom.size)
            if atom in self.charges:
                terms.append(
                    (new, term._replace(axis=axis, segment=segment, charge=self.charges[atom]))
                )
            return new

        start = len(terms)
        result = Operand(copied(self.values.get(id(recorded), recorded), copy))
        lost = self.known.get(id(recorded), set()) - {term.charge for _, term in terms[start:]}
        terms += [(_broken(), term._replace(charge=number)) for number in sorted(lost)]
        return result

    def _met(
        self,
        terms: Sequence[tuple[Atom, Term]],
        recorded: Sequence[Value],
        outputs: Sequence[Value] | None,
    ) -> tuple[Meeting, ...] | None:
        """Who meets, after a rule was followed, and the charges of its outputs; None if that is not
        known.
        """
        classes: dict[Atom, list[Term]] = {}
        for atom, term in terms:
            single = _single(atom)
            if single is None or outputs is None:
                for value in recorded:
                    self.learn(value, value, lambda _: None)
                return None
            classes.setdefault(single, []).append(term)
        results: dict[Atom, list[tuple[int, int]]] = {atom: [] for atom in classes}
        for i, value in enumerate(recorded):
            self._learn_output(i, value, outputs[i] if outputs is not None else value, results)
        return tuple(_meeting(classes[atom], results[atom]) for atom in classes)

    def _learn_output(
        self, i: int, recorded: Value, value: Value, results: Mapping[Atom, list[tuple[int, int]]]
    ) -> None:
        mine: dict[Atom, int] = {}

        def charge(atom: Atom) -> int | None:
            if atom in results and atom not in mine:
                mine[atom], self.count = self.count, self.count + 1
                results[atom].append((i, mine[atom]))
            return mine.get(atom)

        self.learn(recorded, value, charge)


def _meeting(terms: Sequence[Term], results: Sequence[tuple[int, int]]) -> Meeting:
    first: dict[tuple[str, int, int], Term] = {}
    tied: list[tuple[int, int]] = []
    places = {(term.argument, term.index, term.axis, term.segment) for term in terms}
    for term in terms:
        kept = first.setdefault(term[:3], term)
        if kept is not term:
            tied.append((kept.charge, term.charge))
    folded = len({key[:2] for key in first}) < len(first) or len(places) < len(terms)
    return Meeting(tuple(first.values()), tuple(results), tuple(tied), folded)


def _apart(terms: Sequence[tuple[Atom, Term]]) -> tuple[Meeting, ...]:
    return tuple(Meeting((term,), ()) for _, term in terms)


def copied(value: Value, copy: Callable[[Atom, int, int], Atom]) -> Value:
    """The value with each occurrence of an atom replaced by ``copy(atom, axis, segment)``;
    undecided factors stay so.
    """
    again: dict[int, dict[int, Any]] = {}

    def inner(axis: Axis, i: int) -> Axis:
        return tuple(
            tuple(copy(atom, i, j) for atom in segment) for j, segment in enumerate(resolve(axis))
        )

    def axis_of(i: int, axis: Axis) -> Axis:
        factor = undecided(axis)
        if factor is None:
            return inner(axis, i)
        if id(factor.siblings) not in again:
            source = inner(factor.source, i)
            again[id(factor.siblings)] = factor.again(source)
        return ((again[id(factor.siblings)][factor.place],),)

    return tuple(axis_of(i, axis) for i, axis in enumerate(value))


def _single(atom: Atom) -> Atom | None:
    """The one atom that an atom is bound to now, if it is one."""
    axis = resolve(((atom,),))
    return axis[0][0] if len(axis) == 1 == len(axis[0]) else None


def _undecided(value: Value) -> int:
    return sum(undecided(axis) is not None for axis in value)


def _broken() -> Atom:
    """An atom that is no atom any more: its units were cut, so that nothing is known of their
    charge.
    """
    atom = Atom(1)
    atom.bound = ()
    return atom


def _counted(start: int) -> Callable[[Atom], int]:
    numbers = itertools.count(start)
    return lambda _: next(numbers)
