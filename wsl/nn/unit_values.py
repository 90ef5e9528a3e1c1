"""Between tensors and values of units: the entries of each unit, and values laid along the axis on which units stand.

Both work on the places of unit symmetries, (tensor, axis, segment of the concatenation, factor of the product); a family has
one unit for each head and index, counted head by head.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.symmetry import PermutationSpec, Place, unit_index


def unit_rows(spec: PermutationSpec, params: Mapping[str, Tensor], place: Place) -> Tensor:
    """The entries of a place, from a tensor (batch, *shape), as (batch, units, entries of one unit)."""
    index = unit_index(spec, place)
    count = int(index.max()) + 1
    order = index.argsort(stable=True)[int((index < 0).sum()) :].to(params[place.tensor].device)
    rows = params[place.tensor].movedim(1 + place.axis, 1).index_select(1, order)
    return rows.reshape(len(rows), count, -1)


def spread(spec: PermutationSpec, place: Place, values: Tensor, *, elsewhere: float) -> Tensor:
    """Values (batch, units) such that they broadcast over the place's tensor; ``elsewhere`` on other segments of its axis."""
    index = unit_index(spec, place).to(values.device)
    along = torch.cat([values, torch.full_like(values[:, :1], elsewhere)], 1)[:, index]
    shape = [1] * len(spec.axes[place.tensor])
    shape[place.axis] = -1
    return along.view(len(along), *shape)
