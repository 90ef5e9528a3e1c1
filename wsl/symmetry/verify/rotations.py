"""`with_rotations`: the rotations of rotary embeddings, found among candidates by proof.

    q -> c q,   k -> k / conj(c)         with c complex, for each pair of positions and each head

A rotary embedding multiplies pairs of positions of queries and keys by complex numbers, and c
commutes with those. The axis itself is fixed, so the equations of scaling exponents do not see it.
Candidates are queries and keys whose heads share a scale (or, without such a group, weights of one
module with fixed axes of one even size), in both pairings. Each is measured in float64, as
`verify_units` does, and kept if it preserves the function. Su et al. (2021), arXiv 2104.09864.

It tries whole heads only. Where the positions rotate a part of the head, pairs of neighbours are
found all the same, since those of the rest may turn too; pairs of halves are not.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from wsl.symmetry.elements import LinearMaps
from wsl.symmetry.spec import PermutationSpec, Place, SpecError, UnitSymmetry
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.units import Measure

Ends = tuple[str, tuple[Place, ...]]
"""The group of heads, or an empty name, and the places of queries and of keys."""


def with_rotations(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> PermutationSpec:
    """``spec`` with a line for each rotation that preserves ``model(*inputs, **kwargs)``.

    ``spec`` should come from `symmetry_spec`; lines that it has are kept. Inputs must hold at least
    three positions. One forward pass for each candidate. Raises `SpecError` as `wsl.verify` does,
    and if the inputs cannot tell one pairing from the other.
    """
    f = Function(model, seed=seed)
    spec.validate(f.state)
    generator = torch.Generator().manual_seed(seed)
    measure = Measure(f, [Example(inputs, dict(kwargs or {}))])
    measure.draw(generator)
    found = []
    for ends in _candidates(spec):
        lines = [unit for unit in _forms(ends) if _valid(spec, unit)]
        holding = [
            unit
            for unit in lines
            if measure.error(LinearMaps.random(_alone(spec, unit), generator)) <= tolerance
        ]
        found += _told(spec, holding)
    return dataclasses.replace(spec, units=(*spec.units, *found))


def _told(spec: PermutationSpec, holding: Sequence[UnitSymmetry]) -> list[UnitSymmetry]:
    """The one pairing that holds; of a single pair both are the same."""
    if len(holding) < 2 or LinearMaps.identity(_alone(spec, holding[0])).values[0].shape[-1] == 1:
        return list(holding[:1])
    raise SpecError(
        f"with_rotations: {holding[0]} holds as '{holding[0].form}' and as '{holding[1].form}' on "
        "these inputs; pass a sequence of at least three positions"
    )


def _forms(ends: Ends) -> Iterator[UnitSymmetry]:
    group, places = ends
    for form in ("half", "interleaved"):
        yield UnitSymmetry("rotation", group, places, form=form)


def _alone(spec: PermutationSpec, unit: UnitSymmetry) -> PermutationSpec:
    return dataclasses.replace(spec, units=(unit,))


def _valid(spec: PermutationSpec, unit: UnitSymmetry) -> bool:
    try:
        _alone(spec, unit)
    except SpecError:
        return False
    return True


def _candidates(spec: PermutationSpec) -> Iterator[Ends]:
    """Ends of heads that share a scale, then ends in one module that no such scale names."""
    known = {place[:4] for unit in spec.units if unit.kind == "rotation" for place in unit.places}
    for unit in spec.units:
        places = tuple(_fixed_behind(spec, place) for place in unit.places)
        if unit.kind == "scale" and all(places) and not known & {p[:4] for p in places if p}:
            known |= {place[:4] for place in places if place}
            yield unit.group, tuple(place for place in places if place)
    yield from (ends for ends in _in_one_module(spec) if not known & {p[:4] for p in ends[1]})


def _fixed_behind(spec: PermutationSpec, place: Place) -> Place | None:
    """The place of the fixed factor that ends the same product, or None if there is none."""
    term = spec.axes[place.tensor][place.axis][place.segment]
    fixed = isinstance(term[-1], int) and len(term) - 1 > place.factor
    return place._replace(factor=len(term) - 1) if fixed and abs(place.exponent) == 1 else None


def _in_one_module(spec: PermutationSpec) -> Iterator[Ends]:
    """Pairs of submodules whose weights and biases have first axes that end in the same number."""
    ends: dict[tuple[str, int], dict[str, list[Place]]] = {}
    for name, axes in spec.annotations:
        module = name.rpartition(".")[0]
        for segment, term in enumerate(axes[0] if axes else ()):
            size = term[-1] if term else 1
            if isinstance(size, int) and size % 2 == 0:
                place = Place(name, 0, segment, len(term) - 1)
                owner = f"{module}[{segment}]" if len(axes[0]) > 1 else module
                same = ends.setdefault((module.rpartition(".")[0], size), {})
                same.setdefault(owner, []).append(place)
    for owners in ends.values():
        for one, other in itertools.combinations(owners.values(), 2):
            yield "", (*one, *(place._replace(exponent=-1) for place in other))
