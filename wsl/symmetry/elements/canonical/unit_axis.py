"""Between tensors and values of units: a unit's entries, and values laid along the axis of units.

A `UnitAxis` is the place of a unit symmetry, (tensor, axis, segment of the concatenation, factor of
the product), with its index computed once. A family has one unit for each head and index, counted
head by head.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from wsl.symmetry.elements.action import DeviceCopies, across, spread
from wsl.symmetry.spec import PermutationSpec, Place, window_of


@dataclasses.dataclass(frozen=True, eq=False)
class UnitAxis:
    """The axis of a place of ``count`` units, one of ``axes`` axes of its tensor.

    ``index`` (size of the axis,) is the unit at each position, ``count`` elsewhere; ``order`` lists
    positions unit by unit.
    """

    place: Place
    index: DeviceCopies
    order: DeviceCopies
    count: int
    axes: int

    @classmethod
    def of(cls, spec: PermutationSpec, place: Place) -> UnitAxis:
        """The axis of a place of ``spec``."""
        index = unit_index(spec, place)
        count = int(index.max()) + 1
        order = index.argsort(stable=True)[int((index < 0).sum()) :]
        index = DeviceCopies(torch.where(index < 0, count, index))
        return cls(place, index, DeviceCopies(order), count, len(spec.axes[place.tensor]))

    def rows(self, tensor: Tensor) -> Tensor:
        """The entries of a tensor (batch, *shape), as (batch, units, entries of one unit)."""
        rows = tensor.movedim(1 + self.place.axis, 1).index_select(1, self.order.on(tensor.device))
        return rows.reshape(len(rows), self.count, -1)

    def spread(self, values: Tensor, *, elsewhere: float) -> Tensor:
        """Values (batch, units) such that they broadcast over the tensor.

        Other segments of the axis get ``elsewhere``.
        """
        padded = torch.cat([values, torch.full_like(values[:, :1], elsewhere)], 1)
        along = padded.index_select(1, self.index.on(values.device))
        return across(along, self.place.axis, self.axes)


def unit_index(spec: PermutationSpec, place: Place) -> Tensor:
    """Which unit stands at each position of a place's axis, -1 on other segments.

    Units of a family count head by head.
    """
    window = window_of(spec, place)
    parent, size = window.parents[place.factor], window.sizes[place.factor]
    shape = (size,) if parent is None else (window.sizes[parent], size)
    return spread(spec, place, torch.arange(math.prod(shape)).view(shape), elsewhere=-1)
