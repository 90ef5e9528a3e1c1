"""Does each unit symmetry of a specification preserve the function? A numerical proof in float64.

    error(r) = || f_{r.theta}(x) - f_theta(x) || / || f_theta(x) ||

for random weights, as for permutations, and a random element of each symmetry alone, linear maps
and rotations included; then for a random element of permutations, scales, signs and phases
together. The negative control leaves one place of a symmetry untouched, one after the other: it
must break the function, or else that place did not need to take part.

It tells whether what is listed is a symmetry, not whether all are listed. Unit symmetries are
measured in evaluation mode: in training a batch norm adds its epsilon to another variance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry.elements import LinearMaps, Rescaling, SymmetryElement
from wsl.symmetry.spec import Occurrence, PermutationSpec, Place, SpecError, UnitSymmetry
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.controls import BROKEN, sharing
from wsl.symmetry.verify.evidence import UnitVerification
from wsl.symmetry.verify.function import Function

Action = Callable[[Mapping[str, Tensor]], Params]


def verify_units(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
    controls: bool = False,
) -> UnitVerification:
    """The part of `wsl.verify`'s report that is about unit symmetries, and nothing else.

    One forward pass for each symmetry, and with ``controls`` one for each place of each. The
    caller's model and random state stay untouched. Raises `SpecError` as `wsl.verify` does.
    """
    f = Function(model, seed=seed)
    spec.validate(f.state)
    example = Example(inputs, dict(kwargs or {}))
    return measure_units(f, spec, [example], tolerance=tolerance, controls=controls)


def measure_units(
    f: Function,
    spec: PermutationSpec,
    examples: Sequence[Example],
    *,
    tolerance: float,
    alone: bool = True,
    controls: bool = False,
) -> UnitVerification:
    """The evidence, at weights that are drawn from the function's seed.

    Without ``alone``, scales, signs and phases are measured one by one only if all of them together
    do not preserve the function. Linear maps always are, since they are not part of that element.
    """
    generator = torch.Generator().manual_seed(f.seed)
    measure = Measure(f, examples)
    measure.draw(generator)
    whole = measure.error(SymmetryElement.random(spec, generator))
    one_by_one = alone or not whole <= tolerance
    units = [unit for unit in spec.units if one_by_one or unit.mixes]
    errors = tuple((unit, measure.error(_random_element(spec, unit, generator))) for unit in units)
    evidence = UnitVerification(whole, errors, tolerance)
    if not evidence.ok:
        measure.refuse_if_no_function(tolerance)
    loose = tuple(_loose(spec, measure, generator)) if controls else ()
    return dataclasses.replace(evidence, loose=loose)


class Measure:
    """A network at random weights, and its error at others."""

    def __init__(self, f: Function, examples: Sequence[Example]) -> None:
        self.f, self.examples = f, examples

    def draw(self, generator: torch.Generator) -> None:
        """Random weights."""
        self.f.randomize(generator, self.examples[0])
        self.theta = {name: tensor.detach().clone() for name, tensor in self.f.state.items()}
        self.references = [self.f.reference(example) for example in self.examples]

    def error(self, action: Action) -> float:
        """The largest relative error of the network whose weights are moved."""
        self._set(action(self.theta))
        found = [
            self.f.error(example, {}, reference)
            for example, reference in zip(self.examples, self.references, strict=True)
        ]
        self._set(self.theta)
        return max(found)

    def refuse_if_no_function(self, tolerance: float) -> None:
        """Raise `SpecError` if the errors are the network's own."""
        for example, reference in zip(self.examples, self.references, strict=True):
            self.f.refuse_if_no_function(example, reference, tolerance)

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


def _random_element(
    spec: PermutationSpec, unit: UnitSymmetry, generator: torch.Generator
) -> Action:
    """A random element of one symmetry, other than the identity; odd phases, so that signs flip."""
    single = dataclasses.replace(spec, units=(unit,))
    if unit.mixes:
        return LinearMaps.random(single, generator)
    random = _random_other(single, generator)
    return random if unit.kind != "phase" else Rescaling(single, (random.values[0] | 1,))


def _random_other(single: PermutationSpec, generator: torch.Generator) -> Rescaling:
    """A random element of the only symmetry that is not the identity."""
    identity, random = Rescaling.identity(single), Rescaling.random(single, generator)
    while torch.equal(random.values[0], identity.values[0]):
        random = Rescaling.random(single, generator)
    return random


def _loose(
    spec: PermutationSpec, measure: Measure, generator: torch.Generator
) -> Iterator[tuple[UnitSymmetry, Place]]:
    """Places that a symmetry does not need, at two draws of the weights.

    One draw may be blind, by a unit that is dead.
    """
    suspects = [(unit, place) for unit in spec.units for place in unit.places]
    for _ in range(2):
        measure.draw(generator)
        suspects = [
            (unit, place)
            for unit, place in suspects
            if (rest := _without(unit, sharing(measure.f, Occurrence(*place[:4]))))
            and measure.error(_random_element(spec, rest, generator)) <= BROKEN
        ]
    yield from suspects


def _without(unit: UnitSymmetry, gone: frozenset[Occurrence]) -> UnitSymmetry | None:
    """The symmetry without some places, or None if nothing else acts.

    A phase that does not shift any more is a sign.
    """
    places = tuple(place for place in unit.places if Occurrence(*place[:4]) not in gone)
    if unit.kind == "phase" and all(place.exponent < 0 for place in places):
        places = tuple(place._replace(exponent=1) for place in places)
        return UnitSymmetry("sign", unit.group, places) if places else None
    return dataclasses.replace(unit, places=places) if places else None
