"""`verify_units`: does each unit symmetry of a specification preserve the function? A numerical
proof, in float64.

    error(r) = || f_{r.theta}(x) - f_theta(x) || / || f_theta(x) ||

for random weights, as in `wsl.verify`, and a random element of each symmetry alone, linear ones
included; then for a random element of permutations, scales, signs and phases together. The negative
control leaves one place of a symmetry untouched, one after the other: it must break the function,
or else that place did not need to take part.

It tells whether what is listed is a symmetry, not whether all are listed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry.elements import Rescaling, SymmetryElement
from wsl.symmetry.spec import Occurrence, PermutationSpec, Place, SpecError, UnitSymmetry
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.controls import BROKEN, sharing
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.gauge import gauge, random_matrices

Action = Callable[[Mapping[str, Tensor]], Params]


@dataclasses.dataclass(frozen=True)
class UnitVerification:
    """Evidence: relative errors of all symmetries together, and of each unit symmetry alone, in the
    order of ``spec.units``.

    ``loose`` pairs symmetries with places that they need not act on; it is empty unless controls
    were asked for.
    """

    whole: float
    units: tuple[tuple[UnitSymmetry, float], ...]
    tolerance: float
    loose: tuple[tuple[UnitSymmetry, Place], ...] = ()

    @property
    def broken(self) -> tuple[UnitSymmetry, ...]:
        """Symmetries that do not preserve the function."""
        return tuple(unit for unit, error in self.units if not error <= self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether every symmetry, and all of them together, preserve the function."""
        return self.whole <= self.tolerance and not self.broken

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "preserves" if self.ok else "DOES NOT preserve"
        head = f"{verdict} the function: relative error {self.whole:.1e}, float64"
        lines = [
            f"  {error:.1e}  {unit}{'  BROKEN' * (unit in self.broken)}"
            for unit, error in self.units
        ]
        loose = [
            f"  {unit.head}: {place} takes part or not without effect" for unit, place in self.loose
        ]
        return "\n".join([head, *lines, *loose])


def verify_units(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
    controls: bool = False,
) -> UnitVerification:
    """Measure whether the unit symmetries of ``spec`` preserve the function of ``model(*inputs,
    **kwargs)``.

    One forward pass for each symmetry, and with ``controls`` one for each place of each. The
    caller's model and random state stay untouched. Raises `SpecError` as `wsl.verify` does.
    """
    generator = torch.Generator().manual_seed(seed)
    measure = _Measure(model, Example(inputs, dict(kwargs or {})), seed)
    spec.validate(measure.f.state)
    measure.draw(generator)
    whole = measure.error(SymmetryElement.random(spec, generator))
    errors = tuple((unit, measure.error(_alone(spec, unit, generator))) for unit in spec.units)
    loose = tuple(_loose(spec, measure, generator)) if controls else ()
    return UnitVerification(whole, errors, tolerance, loose)


class _Measure:
    """A network at random weights, and its error at others."""

    def __init__(self, model: nn.Module, example: Example, seed: int) -> None:
        self.f, self.example = Function(model, seed=seed), example

    def draw(self, generator: torch.Generator) -> None:
        """Random weights."""
        self.f.randomize(generator, self.example)
        self.theta = {name: tensor.detach().clone() for name, tensor in self.f.state.items()}
        self.reference = self.f.reference(self.example)

    def error(self, action: Action) -> float:
        """The relative error of the network whose weights are moved."""
        self._set(action(self.theta))
        found = self.f.error(self.example, {}, self.reference)
        self._set(self.theta)
        return found

    @torch.no_grad()
    def _set(self, theta: Mapping[str, Tensor]) -> None:
        for name, tensor in self.f.state.items():
            tensor.copy_(theta[name])
        for name, tensor in self.f.state.items():
            if not torch.equal(tensor, theta[name]):
                raise SpecError(
                    f"{name}: shares its memory with another tensor, but the specification scales "
                    "them differently"
                )


def _alone(spec: PermutationSpec, unit: UnitSymmetry, generator: torch.Generator) -> Action:
    """A random element of one symmetry; not the identity, and with odd phases, so that signs
    flip.
    """
    single = dataclasses.replace(spec, units=(unit,))
    if unit.kind == "linear":
        matrices = random_matrices(spec, unit, generator)
        return lambda theta: gauge(single, unit, matrices, theta)
    identity, random = Rescaling.identity(single), Rescaling.random(single, generator)
    while torch.equal(random.values[0], identity.values[0]):
        random = Rescaling.random(single, generator)
    return random if unit.kind != "phase" else Rescaling(single, (random.values[0] | 1,))


def _loose(
    spec: PermutationSpec, measure: _Measure, generator: torch.Generator
) -> Iterator[tuple[UnitSymmetry, Place]]:
    """Places that a symmetry does not need, at two draws of the weights: one draw may be blind, by
    a unit that is dead.
    """
    suspects = [(unit, place) for unit in spec.units for place in unit.places]
    for _ in range(2):
        measure.draw(generator)
        suspects = [
            (unit, place)
            for unit, place in suspects
            if (rest := _without(unit, sharing(measure.f, Occurrence(*place[:4]))))
            and measure.error(_alone(spec, rest, generator)) <= BROKEN
        ]
    yield from suspects


def _without(unit: UnitSymmetry, gone: frozenset[Occurrence]) -> UnitSymmetry | None:
    """The symmetry without some places, or None if nothing else acts; a phase that does not shift
    is a sign.
    """
    places = tuple(place for place in unit.places if Occurrence(*place[:4]) not in gone)
    if unit.kind == "phase" and all(place.exponent < 0 for place in places):
        places = tuple(place._replace(exponent=1) for place in places)
        return UnitSymmetry("sign", unit.group, places) if places else None
    return dataclasses.replace(unit, places=places) if places else None
