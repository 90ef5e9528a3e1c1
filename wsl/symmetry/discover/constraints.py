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
    unknowns = reader.learn_weights(weights, twins)
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

    def learn_weights(
        self, weights: Mapping[str, Value], twins: Mapping[str, str]
    ) -> list[UnknownExponent]:
        """Give every moving atom of the weights an exponent; twins have the same ones."""
        unknowns: list[UnknownExponent] = []
        first: dict[str, int] = {}
        for name, value in weights.items():
            first[name] = first[twins[name]] if name in twins else self.count
            axes = [axis for axis, _ in self.learn(value, value, _counted(first[name]))]
            if name not in twins:
                self.count += len(axes)
                unknowns += _unknowns(name, axes)
        return unknowns

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
        copies = _Copies(self)
        outputs = copies.follow(call)
        if decided := copies.decided():
            yield from map(self.decide, decided)
            yield from self.read(call)
        else:
            met = self.met(copies.terms, call.outputs, outputs)
            yield _read_off(call, copies.terms, met)

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
        classes = _classes(terms)
        if classes is None or (terms and outputs is None):
            self._learn_nothing(recorded)
            return None
        results: dict[Atom, list[tuple[int, int]]] = {atom: [] for atom in classes}
        pairs = zip(recorded, recorded if outputs is None else outputs, strict=True)
        for i, (old, new) in enumerate(pairs):
            self._learn_output(old, new, results, output=i)
        return tuple(_constraint(classes[atom], results[atom]) for atom in classes)

    def _learn_nothing(self, recorded: Sequence[Value]) -> None:
        for value in recorded:
            self.learn(value, value, lambda _: None)

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

    def follow(self, call: OpCall) -> list[Value] | None:
        """Outputs of an operation by its axes rule, which is followed on copies."""
        context = dataclasses.replace(call.context, label=lambda *_: None, between=lambda _: None)
        again = {name: self.argument(name, given) for name, given in call.arguments.items()}
        return follow(call.target, again, context)

    def decided(self) -> list[Value]:
        """Operands that held factors which the rule decided."""
        undecided = self.reader.undecided
        found = {id(old): old for old, new in self.pairs if undecided(old) > _undecided(new)}
        return [*found.values()]

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
        start = len(self.terms)
        value = self.reader.values.get(id(recorded), recorded)
        result = Operand(copied(value, self._copier(term)))
        found = {term.exponent for _, term in self.terms[start:]}
        self.terms += self._lost(recorded, term, found)
        return result

    def _copier(self, term: ExponentTerm) -> Callable[[Atom, int, int], Atom]:
        """Copies atoms one by one, and notes which exponent each copy stands for."""
        exponents = self.reader.exponents

        def copy(atom: Atom, axis: int, segment: int) -> Atom:
            new = atom.like(atom.size)
            if atom in exponents:
                here = term._replace(axis=axis, segment=segment, exponent=exponents[atom])
                self.terms.append((new, here))
            return new

        return copy

    def _lost(
        self, recorded: Value, term: ExponentTerm, found: set[int]
    ) -> Iterator[tuple[Atom, ExponentTerm]]:
        """Exponents of a tensor that no atom of its copy stands for."""
        for number in sorted(self.reader.known.get(id(recorded), set()) - found):
            yield _broken(), term._replace(exponent=number)


def _read_off(
    call: OpCall,
    terms: Sequence[tuple[Atom, ExponentTerm]],
    met: tuple[Constraint, ...] | None,
) -> OpConstraints:
    """The operation with the constraints that were ``met``, or with every exponent forced to 0."""
    known = rules_of(call.target)
    return OpConstraints(
        VANISH if met is None or known is None else known.units,
        call.arguments,
        call.outputs,
        call.floating,
        met or _apart(terms),
        next(iter(call.arguments)) if mutates(call.target) else None,
    )


def _classes(
    terms: Sequence[tuple[Atom, ExponentTerm]],
) -> dict[Atom, list[ExponentTerm]] | None:
    """The exponents that meet in one atom; None where an atom was cut."""
    classes: dict[Atom, list[ExponentTerm]] = {}
    for atom, term in terms:
        single = _single(atom)
        if single is None:
            return None
        classes.setdefault(single, []).append(term)
    return classes


def _constraint(terms: Sequence[ExponentTerm], results: Sequence[tuple[int, int]]) -> Constraint:
    first: dict[tuple[str, int, int], ExponentTerm] = {}
    tied: list[tuple[int, int]] = []
    for term in terms:
        kept = first.setdefault(term[:3], term)
        if kept is not term:
            tied.append((kept.exponent, term.exponent))
    return Constraint(tuple(first.values()), tuple(results), tuple(tied), _folded(terms))


def _folded(terms: Sequence[ExponentTerm]) -> bool:
    """Whether units stand on several axes of one operand, or twice in one segment."""
    axes = {term[:3] for term in terms}
    segments = {(term.argument, term.index, term.axis, term.segment) for term in terms}
    return len({axis[:2] for axis in axes}) < len(axes) or len(segments) < len(terms)


def _apart(terms: Sequence[tuple[Atom, ExponentTerm]]) -> tuple[Constraint, ...]:
    return tuple(Constraint((term,), ()) for _, term in terms)


def copied(value: Value, copy: Callable[[Atom, int, int], Atom]) -> Value:
    """The value with each occurrence of an atom replaced by ``copy(atom, axis, segment)``;
    undecided factors stay so.
    """
    again: dict[int, dict[int, Any]] = {}

    def axis_of(i: int, axis: Axis) -> Axis:
        factor = undecided(axis)
        if factor is None:
            return _copied_axis(axis, i, copy)
        key = id(factor.siblings)
        if key not in again:
            again[key] = factor.again(_copied_axis(factor.source, i, copy))
        return ((again[key][factor.place],),)

    return tuple(axis_of(i, axis) for i, axis in enumerate(value))


def _copied_axis(axis: Axis, i: int, copy: Callable[[Atom, int, int], Atom]) -> Axis:
    return tuple(
        tuple(copy(atom, i, j) for atom in segment) for j, segment in enumerate(resolve(axis))
    )


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
