"""`Verification`: what was measured of a specification, as a value and as a report in plain words,
the worst first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from wsl.symmetry.spec import Occurrence, PermutationSpec

_SHOWN = 8


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Verification:
    """Evidence about a specification.

    whole       relative error of a random element of the whole group, on the given inputs in
                evaluation mode
    groups      the same for a random element of each group alone; the worst, if several conditions
                were measured
    conditions  error of the whole element under every other condition: other inputs, training,
                gradients
    loose       occurrences whose untying did not change the function, of ``controls`` that were
                untied
    apart       groups that fall into parts which move independently of each other
    strict      fixed axes (or fixed factors of an axis) where a transposition did not change the
                function, of ``pins`` that were tried; ``unreached`` others cannot be told, because
                these inputs do not reach two of their positions
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

    @property
    def broken(self) -> tuple[str, ...]:
        """Groups that do not preserve the function, the worst first."""
        return tuple(
            sorted(
                (n for n, e in self.groups.items() if not e <= self.tolerance),
                key=lambda n: -self.groups[n],
            )
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """Conditions under which the whole group does not preserve the function, the worst
        first.
        """
        names = [name for name, error in self.conditions.items() if not error <= self.tolerance]
        return tuple(sorted(names, key=lambda name: -self.conditions[name]))

    @property
    def ok(self) -> bool:
        """Whether every group, and all of them together, preserve the function under all
        conditions.

        It does not look at ``loose``, ``apart`` and ``strict``: they tell of symmetries that a
        specification lacks.
        """
        return self.whole <= self.tolerance and not self.broken and not self.failed

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "preserves" if self.ok else "DOES NOT preserve"
        return "\n".join(
            [f"{verdict} the function: relative error {self.whole:.1e}, float64", *self._report()]
        )

    def _report(self) -> Iterator[str]:
        yield from _kind("other conditions", self.conditions, self.failed)
        yield from _kind("groups alone", self.groups, self.broken)
        if self.controls:
            yield f"  ties: {self.controls - len(self.loose)} of {self.controls} are needed"
            yield from _first(f"{place(o)}: moves or stays without effect" for o in self.loose)
        for name, parts in self.apart.items():
            falls = f"it falls into {len(parts)} that move on their own"
            yield f"  {name} is one group too few, {falls}"
            yield from _first(", ".join(map(place, part)) for part in parts)
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
