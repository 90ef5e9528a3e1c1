"""Between tensors and values of units: the entries of each unit, and values laid along the axis on
which units stand.

A `UnitAxis` is the place of a unit symmetry, (tensor, axis, segment of the concatenation, factor of
the product), with its index computed once; a family has one unit for each head and index, counted
head by head.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wsl.symmetry.elements.constant import Constant
from wsl.symmetry.elements.layout import unit_index
from wsl.symmetry.spec import PermutationSpec, Place


@dataclasses.dataclass(frozen=True, eq=False)
class UnitAxis:
    """``index`` (size of the axis,): the unit at each position, ``count`` elsewhere; ``order``
    lists positions unit by unit.
    """

    place: Place
    index: Constant
    order: Constant
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: PermutationSpec, place: Place) -> UnitAxis:
        """The axis of a place of ``spec``."""
        index = unit_index(spec, place)
        count = int(index.max()) + 1
        order = index.argsort(stable=True)[int((index < 0).sum()) :]
        shape = tuple(-1 if i == place.axis else 1 for i in range(len(spec.axes[place.tensor])))
        return cls(
            place, Constant(torch.where(index < 0, count, index)), Constant(order), count, shape
        )

    def rows(self, tensor: Tensor) -> Tensor:
        """The place's entries of a tensor (batch, *shape), as (batch, units, entries of one
        unit).
        """
        rows = tensor.movedim(1 + self.place.axis, 1).index_select(1, self.order.on(tensor.device))
        return rows.reshape(len(rows), self.count, -1)

    def spread(self, values: Tensor, *, elsewhere: float) -> Tensor:
        """Values (batch, units) such that they broadcast over the tensor; ``elsewhere`` on other
        segments of the axis.
        """
        padded = torch.cat([values, torch.full_like(values[:, :1], elsewhere)], 1)
        along = padded.index_select(1, self.index.on(values.device))
        return along.view(len(along), *self.shape)
