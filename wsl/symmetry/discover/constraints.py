"""`constraints`: which units meet in each operation, found by following its axes rule again.

After discovery every axis is known. Now each *occurrence* of an atom in a value becomes an atom of
its own, with a scaling exponent to be found, and the axes rule of the operation is followed again
on these copies: the occurrences that it unites are those of the same units, and where their atom
stands in a result, there the result's units are these. So whatever a rule ties, sums, cuts or
reshapes is understood here without a second table of correspondences; what the operation does with
the *values* of these units is the only thing left to say, in its unit rule.

Where a rule cannot be followed again, every exponent of its operands is forced to zero: sound, not
complete.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wsl.symmetry.discover.axes import Atom, Axis, Operand, Value, is_value, resolve
from wsl.symmetry.discover.exponents import (
    CARRY,
    VANISH,
    Constraint,
    ExponentTerm,
    OpConstraints,
    UnknownExponent,
)
from wsl.symmetry.discover.interpret import (
    OpCall,
    OpRecord,
    follow,
    is_lazy,
    mutates,
    operands_of,
    rules_of,
)
from wsl.symmetry.discover.lazy import undecided


def constraints(
    weights: Mapping[str, Value],
    records: Sequence[OpRecord],
    *,
    twins: Mapping[str, str],
    written: Sequence[Value],
) -> tuple[list[UnknownExponent], list[OpConstraints]]:
    """The unknown exponents of the weights, numbered from zero, and the operations in order.

    ``twins`` share one tensor. Values ``written`` to buffers after the call have no exponent, nor
    have the buffers.
    """
    reader = _Reader()
    unknowns: list[UnknownExponent] = []
    first: dict[str, int] = {}
    for name, value in weights.items():
        first[name] = first[twins[name]] if name in twins else reader.count
        found = reader.learn(value, value, _counted(first[name]))
        if name not in twins:
            reader.count += len(found)
            unknowns += _unknowns(name, [axis for axis, _ in found])
    calls = [record.call for record in records if record.call is not None]
    ops = [op for call in calls for op in reader.read(call)]
    return unknowns, [*ops, *map(reader.end, written)]


def _unknowns(tensor: str, axes: Sequence[int]) -> Iterator[UnknownExponent]:
    """One for each moving atom of a weight, given the axes on which they stand."""
    return (UnknownExponent(tensor, axis, axes[:k].count(axis)) for k, axis in enumerate(axes))


class _Reader:
    """What is known of each value of the graph: its axes, in which every occurrence that has an
    exponent is an atom of its own.
    """

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}
        self.exponents: dict[Atom, int] = {}
        self.known: dict[int, set[int]] = {}
        self.count = 0

    def learn(
        self, recorded: Value, value: Value, exponent: Callable[[Atom], int | None]
    ) -> list[tuple[int, int]]:
        """Keep a copy of a value, with the exponents of its moving atoms; returns pairs of axis and
        exponent.
        """
        found: list[tuple[int, int]] = []

        def copy(atom: Atom, axis: int, _: int) -> Atom:
            new = atom.like(atom.size)
            number = exponent(atom) if atom.free else None
            if number is not None:
                self.exponents[new] = number
                found.append((axis, number))
            return new

        self.values[id(recorded)] = copied(value, copy)
        self.known[id(recorded)] = {number for _, number in found}
        return found

    def read(self, call: OpCall) -> Iterator[OpConstraints]:
        """Follow an operation's axes rule on copies of what is known."""
        # Operands whose factors the rule decides are decided before, as an operation of its own.
        if not is_lazy(call.target):
            yield from map(self.decide, filter(self.undecided, operands_of(call.arguments)))
        context = dataclasses.replace(call.context, label=lambda *_: None, between=lambda _: None)
        copies = _Copies(self)
        again = {name: copies.argument(name, given) for name, given in call.arguments.items()}
        outputs = follow(call.target, again, context)
        if decided := [old for old, new in copies.pairs if self.undecided(old) > _undecided(new)]:
            yield from map(self.decide, {id(old): old for old in decided}.values())
            yield from self.read(call)
            return
        met = self.met(copies.terms, call.outputs, outputs)
        known = rules_of(call.target)
        yield OpConstraints(
            VANISH if met is None or known is None else known.units,
            call.arguments,
            call.outputs,
            call.floating,
            met or _apart(copies.terms),
            next(iter(call.arguments)) if mutates(call.target) else None,
        )

    def undecided(self, recorded: Value) -> int:
        """How many axes of a value are factors that are not yet decided."""
        return _undecided(self.values.get(id(recorded), ()))

    def decide(self, recorded: Value) -> OpConstraints:
        """The value with its factors decided, which makes exponents of parts equal that are now one
        axis.
        """
        copies = _Copies(self)
        value = tuple(map(resolve, copies.operand(recorded, ExponentTerm("self", 0, 0, 0, 0))))
        met = self.met(copies.terms, [recorded], [value])
        rule = VANISH if met is None else CARRY
        constraints = met or _apart(copies.terms)
        return OpConstraints(rule, {"self": recorded}, [recorded], [True], constraints)

    def end(self, value: Value) -> OpConstraints:
        """What is written to a buffer: nothing is known of how it is used."""
        exponents = sorted(self.known.get(id(value), ()))
        terms = (ExponentTerm("", 0, 0, 0, exponent) for exponent in exponents)
        return OpConstraints(VANISH, {}, (), (), tuple(Constraint((term,), ()) for term in terms))

    def met(
        self,
        terms: Sequence[tuple[Atom, ExponentTerm]],
        recorded: Sequence[Value],
        outputs: Sequence[Value] | None,
    ) -> tuple[Constraint, ...] | None:
        """The constraints of an operation whose rule was followed; its outputs get their exponents.

        None where the rule cut units apart, or could not be followed.
        """
        classes: dict[Atom, list[ExponentTerm]] = {}
        for atom, term in terms:
            single = _single(atom)
            if single is None or outputs is None:
                for value in recorded:
                    self.learn(value, value, lambda _: None)
                return None
            classes.setdefault(single, []).append(term)
        results: dict[Atom, list[tuple[int, int]]] = {atom: [] for atom in classes}
        for i, value in enumerate(recorded):
            self._learn_output(
                value, outputs[i] if outputs is not None else value, results, output=i
            )
        return tuple(_constraint(classes[atom], results[atom]) for atom in classes)

    def _learn_output(
        self,
        recorded: Value,
        value: Value,
        results: Mapping[Atom, list[tuple[int, int]]],
        *,
        output: int,
    ) -> None:
        mine: dict[Atom, int] = {}

        def exponent(atom: Atom) -> int | None:
            if atom in results and atom not in mine:
                mine[atom], self.count = self.count, self.count + 1
                results[atom].append((output, mine[atom]))
            return mine.get(atom)

        self.learn(recorded, value, exponent)


class _Copies:
    """Copies of the operands of one operation.

    ``terms`` pairs the atoms that stand for exponents with those exponents, ``pairs`` each operand
    with its copy.
    """

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.terms: list[tuple[Atom, ExponentTerm]] = []
        self.pairs: list[tuple[Value, Value]] = []

    def argument(self, name: str, argument: Any) -> Any:
        """An argument with its tensors copied, one by one in a list."""

        def copy(part: Any, index: int) -> Any:
            if not is_value(part):
                return part
            new = self.operand(part, ExponentTerm(name, index, 0, 0, 0))
            self.pairs.append((part, new))
            return new

        if isinstance(argument, (list, tuple)) and not is_value(argument):
            return [copy(part, i) for i, part in enumerate(argument)]
        return copy(argument, 0)

    def operand(self, recorded: Value, term: ExponentTerm) -> Operand:
        """A tensor's copy; ``term`` tells where it stands among the arguments."""
        exponents, start = self.reader.exponents, len(self.terms)

        def copy(atom: Atom, axis: int, segment: int) -> Atom:
            new = atom.like(atom.size)
            if atom in exponents:
                here = term._replace(axis=axis, segment=segment, exponent=exponents[atom])
                self.terms.append((new, here))
            return new

        result = Operand(copied(self.reader.values.get(id(recorded), recorded), copy))
        found = {term.exponent for _, term in self.terms[start:]}
        for number in sorted(self.reader.known.get(id(recorded), set()) - found):
            self.terms.append((_broken(), term._replace(exponent=number)))
        return result


def _constraint(terms: Sequence[ExponentTerm], results: Sequence[tuple[int, int]]) -> Constraint:
    first: dict[tuple[str, int, int], ExponentTerm] = {}
    tied: list[tuple[int, int]] = []
    places = {(term.argument, term.index, term.axis, term.segment) for term in terms}
    for term in terms:
        kept = first.setdefault(term[:3], term)
        if kept is not term:
            tied.append((kept.exponent, term.exponent))
    folded = len({key[:2] for key in first}) < len(first) or len(places) < len(terms)
    return Constraint(tuple(first.values()), tuple(results), tuple(tied), folded)


def _apart(terms: Sequence[tuple[Atom, ExponentTerm]]) -> tuple[Constraint, ...]:
    return tuple(Constraint((term,), ()) for _, term in terms)


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
    exponent.
    """
    atom = Atom(1)
    atom.bound = ()
    return atom


def _counted(start: int) -> Callable[[Atom], int]:
    numbers = itertools.count(start)
    return lambda _: next(numbers)
