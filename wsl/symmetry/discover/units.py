"""`symmetry_spec`: permutations, and the scales, signs, phases and linear maps of the units.

    scale, linear    kernel over Q of the equations of scaling exponents
    sign, phase      their kernel modulo two

for every permutation group separately, since no equation couples two of them. Sound by the unit
rules, and proved by `wsl.symmetry.verify_units`; not complete: it misses symmetries of single
weights' values, translations (a bias before a batch norm), scalars common to all units before a
layer norm, gates of LSTM and GRU, rotations of rotary embeddings, and units that no group permutes.
What the inside of a block already gives, unit by unit, is not repeated for the block as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from wsl.symmetry.discover.constraints import constraints
from wsl.symmetry.discover.discovery import Discovery, discover
from wsl.symmetry.discover.exponents import (
    Exponents,
    LinearForm,
    OpConstraints,
    UnknownExponent,
    independent,
    integers,
    kernel,
    read,
    remainder,
)
from wsl.symmetry.discover.phases import Phases, phases
from wsl.symmetry.discover.sources import twins
from wsl.symmetry.spec import Occurrence, PermutationSpec, Place, UnitSymmetry, clashes


def symmetry_spec(model: nn.Module, *inputs: Any, **kwargs: Any) -> PermutationSpec:
    """`wsl.permutation_spec`, with all that is found beyond permutations in ``units``; the
    parameters are the same.

    ``without_units()`` gives what `wsl.permutation_spec` returns. Weights may live on the meta
    device. Nothing is found beyond permutations where Python reads values of the network on its
    way: a graph does not show what depends on them.
    """
    found = discover(model, inputs, kwargs)
    return dataclasses.replace(found.spec, units=() if found.reads else _units(found))


def _units(found: Discovery) -> tuple[UnitSymmetry, ...]:
    order = {group: i for i, group in enumerate(found.spec.groups)}
    units = sorted(_of_all_kinds(found), key=lambda unit: order[unit.group])
    return tuple(
        unit for unit in units if unit.kind != "phase" or next(clashes(unit, units), None) is None
    )


def _of_all_kinds(found: Discovery) -> Iterator[UnitSymmetry]:
    """Scales, signs with phases, and linear maps, each kind from equations of its own."""
    names = twins(found.state)
    unknowns, ops = constraints(found.weights, found.records, twins=names, written=found.written)
    places = _Unknowns(found.spec, unknowns, names)
    known = all(record.call is not None for record in found.records)
    yield from _real("scale", places, ops, known=known)
    yield from _signs(places, ops, known=known, shifts=phases(len(unknowns), ops))
    yield from _real("linear", places, ops, known=known)


class _Unknowns:
    """Where the unknown exponents stand in the specification."""

    def __init__(
        self, spec: PermutationSpec, unknowns: Sequence[UnknownExponent], twins: Mapping[str, str]
    ) -> None:
        self.spec = spec
        names: dict[str, list[str]] = {}
        for name in spec.axes:
            names.setdefault(twins.get(name, name), []).append(name)
        self.occurrences = [
            [_occurrence(spec, name, v) for name in names[v.tensor]] for v in unknowns
        ]
        self.groups = [_atom(spec, found[0]) for found in self.occurrences]

    def columns(self, order: Mapping[int, None]) -> dict[str, list[int]]:
        """Unknowns of each group, in the order of their use, then those that were not used."""
        columns: dict[str, list[int]] = {group: [] for group in self.spec.groups}
        for number in dict.fromkeys([*(n for n in order if n >= 0), *range(len(self.groups))]):
            columns[self.groups[number]].append(number)
        return columns

    def equations(self, rows: Sequence[LinearForm]) -> dict[str, list[LinearForm]]:
        """Equations of each group."""
        equations: dict[str, list[LinearForm]] = {group: [] for group in self.spec.groups}
        for row in rows:
            number = next(iter(row))
            equations[self.groups[number if number >= 0 else -1 - number]].append(row)
        return equations

    def written(self, row: Mapping[int, int], offsets: Mapping[int, float]) -> tuple[Place, ...]:
        """The places of a symmetry, in the order of the tensors."""
        found = {
            o: (e, offsets.get(number, 0.0))
            for number, e in row.items()
            for o in self.occurrences[number]
        }
        tensors = {name: i for i, name in enumerate(self.spec.axes)}
        return tuple(
            Place(*o, *found[o]) for o in sorted(found, key=lambda o: (tensors[o.tensor], *o[1:]))
        )

    def blocks(self, rows: Mapping[str, Sequence[LinearForm]]) -> dict[str, list[LinearForm]]:
        """What symmetries of families do to the blocks that hold them."""
        number_of = {o: number for number, found in enumerate(self.occurrences) for o in found}
        induced: dict[str, list[LinearForm]] = {}
        for family in self.spec.declared:
            for row in rows.get(family.name, ()) if family.per else ():
                parent = str(family.per)
                block = {number_of[self._outer(n, parent)]: value for n, value in row.items()}
                induced.setdefault(parent, []).append(block)
        return induced

    def _outer(self, number: int, parent: str) -> Occurrence:
        """Where the blocks stand whose inside an unknown scales."""
        o = self.occurrences[number][0]
        return o._replace(factor=self.spec.axes[o.tensor][o.axis][o.segment].index(parent))


class _Solutions(NamedTuple):
    """Unknowns of each group, equations between them, and a basis of their solutions.

    ``blocks`` are solutions that the inside of the group's blocks already gives.
    """

    columns: dict[str, list[int]]
    equations: dict[str, list[LinearForm]]
    rows: dict[str, list[LinearForm]]
    blocks: dict[str, list[LinearForm]]

    @classmethod
    def of(cls, places: _Unknowns, exponents: Exponents, *, modulo: int = 0) -> _Solutions:
        columns, equations = places.columns(exponents.order), places.equations(exponents.equations)
        rows = {
            group: kernel(map(_signs_only, equations[group]), columns[group], modulo=modulo)
            for group in columns
        }
        return cls(columns, equations, rows, places.blocks(rows))

    def new(self, group: str, *, modulo: int = 0) -> list[LinearForm]:
        return independent(self.rows[group], self.blocks.get(group, ()), modulo=modulo)


def _real(
    kind: str, places: _Unknowns, ops: Sequence[OpConstraints], *, known: bool
) -> Iterator[UnitSymmetry]:
    exponents = Exponents(kind, len(places.groups))
    read(exponents, ops, known=known)
    solutions = _Solutions.of(places, exponents)
    for group in solutions.columns:
        for row in solutions.new(group):
            yield UnitSymmetry(
                kind, group, places.written(_positive(integers(row)), exponents.offsets)
            )


def _positive(row: dict[int, int]) -> dict[int, int]:
    sign = 1 if next(iter(row.values())) > 0 else -1
    return {number: sign * value for number, value in row.items()}


def _signs(
    places: _Unknowns, ops: Sequence[OpConstraints], *, known: bool, shifts: Phases
) -> Iterator[UnitSymmetry]:
    exponents = Exponents("sign", len(places.groups), shifts.flips)
    read(exponents, ops, known=known)
    solutions = _Solutions.of(places, exponents, modulo=2)
    for group in solutions.columns:
        for row in solutions.new(group, modulo=2):
            signs = places.written(dict.fromkeys(row, 1), exponents.offsets)
            yield UnitSymmetry("sign", group, signs)
        for number in solutions.columns[group]:
            if number not in shifts.omegas:
                continue
            row, omega = _phase(number, group, solutions, omega=shifts.omegas[number])
            yield UnitSymmetry("phase", group, places.written(row, exponents.offsets), omega)


def _phase(
    number: int, group: str, solutions: _Solutions, *, omega: float
) -> tuple[dict[int, int], float]:
    """Where a phase shifts and flips, and its frequency."""
    flips = _flips(
        number,
        solutions.columns[group],
        equations=solutions.equations[group],
        signs=solutions.rows[group],
    )
    # Where half a turn cannot be undone behind the sine, a whole turn needs no undoing.
    return {number: 1} | dict.fromkeys(flips or (), -1), omega / (2 if flips is None else 1)


def _signs_only(row: LinearForm) -> LinearForm:
    return {number: value for number, value in row.items() if number >= 0}


def _flips(
    number: int,
    columns: Sequence[int],
    *,
    equations: Sequence[LinearForm],
    signs: Sequence[LinearForm],
) -> LinearForm | None:
    """Places that flip where this one shifts by half a period, or None if nothing undoes that."""
    # Half turns of other sines are left out, since those stay where they are. This one's is the
    # first column, so that one row of the basis holds it if any solution does.
    half = -1 - number
    mine = [{n: value for n, value in row.items() if n >= 0 or n == half} for row in equations]
    first = [half, number, *(n for n in columns if n != number)]
    found = next((row for row in kernel(mine, first, modulo=2) if half in row), None)
    if found is None:
        return None
    flips = remainder(_signs_only(found), signs, first[1:], modulo=2)
    return None if number in flips else flips


def _occurrence(spec: PermutationSpec, tensor: str, unknown: UnknownExponent) -> Occurrence:
    """The place of the nth moving atom of an axis."""
    segments = enumerate(spec.axes[tensor][unknown.axis])
    moving = [
        (j, k) for j, segment in segments for k, atom in enumerate(segment) if isinstance(atom, str)
    ]
    return Occurrence(tensor, unknown.axis, *moving[unknown.nth])


def _atom(spec: PermutationSpec, o: Occurrence) -> str:
    return str(spec.axes[o.tensor][o.axis][o.segment][o.factor])
