"""`Verification`: what was measured of a specification, as a value and as one report.

Permutations and unit symmetries stand in the same report, in plain words and the worst first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from wsl.symmetry.spec import Occurrence, PermutationSpec, Place, UnitSymmetry

_SHOWN = 8


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class UnitVerification:
    """Evidence about the unit symmetries of a specification: scales, signs, phases, linear maps.

    whole    relative error of one random element: a permutation with all scales, signs and phases
    units    the same for each unit symmetry alone, in the order of ``spec.units``
    loose    unit symmetries with places that they need not act on, if controls were asked for
    """

    whole: float = 0.0
    units: tuple[tuple[UnitSymmetry, float], ...] = ()
    tolerance: float = 1e-9
    loose: tuple[tuple[UnitSymmetry, Place], ...] = ()

    @property
    def broken(self) -> tuple[UnitSymmetry, ...]:
        """Symmetries that do not preserve the function, the worst first."""
        return tuple(unit for unit, error in self._ordered() if not error <= self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether every symmetry, and all of them together, preserve the function."""
        return self.whole <= self.tolerance and not self.broken

    @property
    def worst(self) -> float:
        """The largest error."""
        return max([self.whole, *(error for _, error in self.units)])

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        head = f"{_verdict(ok=self.ok)} the function: relative error {self.whole:.1e}, float64"
        lines = [
            f"  {error:.1e}  {unit}{'  BROKEN' * (not error <= self.tolerance)}"
            for unit, error in self._ordered()
        ]
        loose = [
            f"  {unit.head}: {place} takes part or not without effect" for unit, place in self.loose
        ]
        return "\n".join([head, *lines, *loose])

    def _ordered(self) -> list[tuple[UnitSymmetry, float]]:
        """What breaks the function, the worst first, then the others in their order."""
        return sorted(self.units, key=lambda unit: min(-unit[1], -self.tolerance))


@dataclasses.dataclass(frozen=True)
class Verification:
    """Evidence about a specification.

    whole       relative error of a random permutation of all groups, on the given inputs in
                evaluation mode
    groups      the same for a random permutation of each group alone; the worst, if several
                conditions were measured
    units       the evidence about scales, signs, phases and linear maps
    conditions  error of the whole permutation under every other condition: other inputs, training,
                gradients
    loose       occurrences whose untying did not change the function, of ``controls`` that were
                untied
    apart       groups that fall into parts which move independently of each other
    strict      fixed axes (or fixed factors of an axis) where a transposition did not change the
                function, of ``pins`` that were tried
    unreached   fixed axes of which nothing can be told, because these inputs do not reach two of
                their positions
    """

    whole: float
    groups: Mapping[str, float]
    tolerance: float
    conditions: Mapping[str, float] = dataclasses.field(default_factory=_nothing)
    controls: int = 0
    loose: tuple[Occurrence, ...] = ()
    apart: Mapping[str, tuple[tuple[Occurrence, ...], ...]] = dataclasses.field(
        default_factory=_nothing
    )
    pins: int = 0
    strict: tuple[Occurrence, ...] = ()
    unreached: tuple[Occurrence, ...] = ()
    units: UnitVerification = UnitVerification()

    @property
    def broken(self) -> tuple[str, ...]:
        """Groups that do not preserve the function, the worst first; ``units.broken`` for units."""
        return _beyond(self.groups, self.tolerance)

    @property
    def failed(self) -> tuple[str, ...]:
        """Conditions under which the permutation does not preserve the function, worst first."""
        return _beyond(self.conditions, self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether all groups and all unit symmetries preserve the function under all conditions.

        It does not look at ``loose``, ``apart`` and ``strict``: they tell of symmetries that a
        specification lacks.
        """
        permutations = self.whole <= self.tolerance and not self.broken and not self.failed
        return permutations and self.units.ok

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        error = max(self.whole, self.units.worst)
        head = f"{_verdict(ok=self.ok)} the function: relative error {error:.1e}, float64"
        return "\n".join(
            [head, *self._permutations(), *self._units(), *self._ties(), *self._fixed()]
        )

    def _permutations(self) -> Iterator[str]:
        yield from _kind("other conditions", self.conditions, self.failed)
        yield from _kind("groups alone", self.groups, self.broken)

    def _units(self) -> Iterator[str]:
        if self.units.units or not self.units.ok:
            head, *lines = str(self.units).splitlines()
            yield f"  unit symmetries: {head}"
            yield from (f"  {line}" for line in lines)

    def _ties(self) -> Iterator[str]:
        if self.controls:
            yield f"  ties: {self.controls - len(self.loose)} of {self.controls} are needed"
            yield from _first(f"{place(o)}: moves or stays without effect" for o in self.loose)
        for name, parts in self.apart.items():
            falls = f"it falls into {len(parts)} that move on their own"
            yield f"  {name} is one group too few, {falls}"
            yield from _first(", ".join(map(place, part)) for part in parts)

    def _fixed(self) -> Iterator[str]:
        if self.pins:
            yield f"  fixed axes: {self.pins - len(self.strict)} of {self.pins} have to stand still"
            yield from _first(
                f"{place(o)}: possibly too strict, its entries may be exchanged"
                for o in self.strict
            )
        if self.unreached:
            yield f"  fixed axes: {len(self.unreached)} more cannot be told by these inputs"


def place(occurrence: Occurrence) -> str:
    """Tensor and axis; where an axis has several terms or factors, which of them."""
    tensor, axis, segment, factor = occurrence
    inside = f" (term {segment + 1}, factor {factor + 1})" if segment or factor else ""
    return f"{tensor} axis {axis}{inside}"


def fixed_places(spec: PermutationSpec) -> Iterator[Occurrence]:
    """Every fixed axis longer than one, and every fixed factor of an axis."""
    for name, axes in spec.annotations:
        for i, axis in enumerate(axes):
            for j, segment in enumerate(axis):
                yield from (
                    Occurrence(name, i, j, k)
                    for k, atom in enumerate(segment)
                    if isinstance(atom, int) and atom > 1
                )


def _verdict(*, ok: bool) -> str:
    return "preserves" if ok else "DOES NOT preserve"


def _beyond(errors: Mapping[str, float], tolerance: float) -> tuple[str, ...]:
    """Names with an error beyond the tolerance, the worst first."""
    names = [name for name, error in errors.items() if not error <= tolerance]
    return tuple(sorted(names, key=lambda name: -errors[name]))


def _kind(what: str, errors: Mapping[str, float], bad: Sequence[str]) -> Iterator[str]:
    """One line for what holds, then one for each that does not."""
    if errors:
        worst = max(errors, key=lambda name: errors[name])
        kept = f"{len(errors) - len(bad)} of {len(errors)} preserve it"
        yield f"  {what}: {kept}, the worst is {worst} with {errors[worst]:.1e}"
    yield from _first(f"{name}: {errors[name]:.1e}  BROKEN" for name in bad)


def _first(lines: Iterable[str]) -> Sequence[str]:
    every = [f"    {line}" for line in lines]
    return (
        every
        if len(every) <= _SHOWN + 1
        else [*every[:_SHOWN], f"    ... and {len(every) - _SHOWN} more"]
    )
