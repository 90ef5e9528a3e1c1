"""Values of units, laid out along the axes of the tensors on which they act."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wsl.symmetry.spec import PermutationSpec, Place, UnitSymmetry


def acting(spec: PermutationSpec) -> tuple[UnitSymmetry, ...]:
    """The unit symmetries that have elements: scales, signs and phases."""
    return tuple(unit for unit in spec.units if unit.kind != "linear")


def along(spec: PermutationSpec, place: Place, values: Tensor, elsewhere: float) -> Tensor:
    """Values of a place's units, laid out so that they broadcast over its tensor; ``elsewhere`` on
    other segments.
    """
    axes = spec.axes[place.tensor]
    parts = list(_parts(spec, place, values, elsewhere))
    shape = [1] * len(axes)
    shape[place.axis] = -1
    return torch.cat(parts).view(shape)


def _parts(
    spec: PermutationSpec, place: Place, values: Tensor, elsewhere: float
) -> Iterator[Tensor]:
    for j, segment in enumerate(spec.axes[place.tensor][place.axis]):
        sizes = [spec.segment_size((atom,)) for atom in segment]
        if j != place.segment:
            yield values.new_full((math.prod(sizes),), elsewhere)
            continue
        parent = next(group.per for group in spec.declared if group.name == segment[place.factor])
        moving = {place.factor} | ({segment.index(parent)} if parent else set())
        shape = [n if k in moving else 1 for k, n in enumerate(sizes)]
        yield values.reshape(shape).expand(sizes).flatten()


def shape_of(spec: PermutationSpec, unit: UnitSymmetry) -> tuple[int, ...]:
    """One value for each unit, or for each head and unit of a family."""
    return _units_of(spec, unit.group)


def _units_of(spec: PermutationSpec, name: str) -> tuple[int, ...]:
    group = next(group for group in spec.declared if group.name == name)
    return (group.size,) if group.per is None else (spec.groups[group.per], group.size)


def unit_index(spec: PermutationSpec, place: Place) -> Tensor:
    """Which unit stands at each position of a place's axis, -1 on other segments; units of a family
    count head by head.
    """
    sizes = _units_of(spec, str(spec.axes[place.tensor][place.axis][place.segment][place.factor]))
    return along(spec, place, torch.arange(math.prod(sizes)).view(sizes), -1).flatten()
