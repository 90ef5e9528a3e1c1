"""Tensors of a file, such as those of the experts of a mixture, seen as one without a copy.

    experts.0.w1.weight: (k, d)                 experts.w1.weight: (expert h) d
    experts.1.w1.weight: (k, d)        ->       experts.w2.weight: d (expert h)
    ...                                         experts.w1.bias:   expert h

What is asked for is read from the parts that it lies in, and from no others.
"""

from __future__ import annotations

import dataclasses
from types import EllipsisType

import torch
from torch import Tensor

from wsl.matching.large.files import TensorSlices


@dataclasses.dataclass(frozen=True)
class JoinedTensor:
    """``parts`` of one shape and type, one after the other along ``axis``; None is a new first one.

    ``names`` are those of the parts where they come from.
    """

    parts: tuple[TensorSlices, ...]
    names: tuple[str, ...]
    axis: int | None

    @property
    def shape(self) -> torch.Size:
        """The size of every axis."""
        one = list(self.parts[0].shape)
        if self.axis is None:
            return torch.Size((len(self.parts), *one))
        one[self.axis] *= len(self.parts)
        return torch.Size(one)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""
        return self.parts[0].dtype

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        """The tensor, or a slice of its first axis with step 1."""
        if self.axis:
            return torch.cat([part[rows] for part in self.parts], self.axis)
        first, stop, _ = (rows if isinstance(rows, slice) else slice(None)).indices(self.shape[0])
        return self.along(first, max(0, stop - first))

    def along(self, start: int, length: int) -> Tensor:
        """Some entries of the axis along which the parts lie."""
        axis = self.axis or 0
        each = self.shape[axis] // len(self.parts)
        found = []
        for number, part in enumerate(self.parts):
            first, stop = max(0, start - number * each), min(each, start + length - number * each)
            if first < stop:
                whole = self.axis is None
                found.append(part[...][None] if whole else narrowed(part, axis, (first, stop)))
        return found[0] if len(found) == 1 else torch.cat(found, axis)


def narrowed(tensor: TensorSlices, axis: int, bounds: tuple[int, int]) -> Tensor:
    """The entries from the first bound to before the second, of which only few are read if the
    tensor lies so.
    """
    first, stop = bounds
    if isinstance(tensor, JoinedTensor) and axis == (tensor.axis or 0):
        return tensor.along(first, stop - first)
    return tensor[first:stop] if axis == 0 else tensor[...].narrow(axis, first, stop - first)
