"""How elements act on tensors: entries move along axes, and values of units multiply or shift them.

    moved:   theta[.., i, ..]  ->  theta[.., pi(i), ..]        `IndexMaps`
    scaled:  theta[.., i, ..]  ->  s_i theta[.., i, ..]        `along`, `UnitAction`

Both are laid out window by window: what belongs to the units of a group is (*lead, size), or
(*lead, size of per, size) for a family, and varies along one factor of a window (two for a family).
``lead`` is empty for one element, and (rows,) for an element of its own for each row of a batch.
Everything that depends on the element alone is computed once and kept with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.spec import Atom, Axis, Occurrence, PermutationSpec, Place, Window, windows


class DeviceCopies:
    """A tensor that never changes, such as an index, kept on every device that has asked for it.

    A copy to an accelerator makes the processor wait for it, and cannot be captured in a graph of
    its work; one copy in each forward pass would cost more than the kernels around it. Do not write
    to what it returns. Not for tensors that are learned or saved: those are buffers.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._first = _kept(tensor)
        self._copies = {(tensor.device, tensor.dtype): self._first}

    def on(self, device: torch.device | None) -> Tensor:
        """The tensor on ``device``, copied at the first call only; None is where it came from."""
        return self._copy(device or self._first.device, self._first.dtype)

    def like(self, tensor: Tensor) -> Tensor:
        """The tensor on the device and in the dtype of another."""
        return self._copy(tensor.device, tensor.dtype)

    def _copy(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        copy = self._copies.get((device, dtype))
        if copy is None:
            # Only copies towards an accelerator may be left to finish by themselves.
            copy = _kept(self._first.to(device, dtype, non_blocking=device.type != "cpu"))
            self._copies[device, dtype] = copy
        return copy


def _kept(tensor: Tensor) -> Tensor:
    """A tensor that may serve gradients later, even if it was made in inference mode."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


class IndexMaps:
    """Where each position of an axis comes from, under one element or under one for each row.

    ``indices`` are those of the element, by the name of their group; ``rows`` is None for one
    element. Maps are kept by axis, since many axes of a network are annotated alike.
    """

    def __init__(
        self, spec: PermutationSpec, indices: Mapping[str, Tensor], rows: int | None = None
    ) -> None:
        self.spec, self.indices, self.rows = spec, indices, rows
        self._maps: dict[Axis, DeviceCopies | None] = {}

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.spec, self.indices, self.rows)  # without the maps

    def of(self, axis: Axis, device: torch.device | None = None) -> Tensor | None:
        """The map (*lead, length of the axis), int64; None where no group acts."""
        if axis not in self._maps:
            found = self._computed(axis)
            self._maps[axis] = None if found is None else DeviceCopies(found)
        copies = self._maps[axis]
        return None if copies is None else copies.on(device)

    def gather(self, params: Mapping[str, Tensor], first: int) -> Params:
        """Every tensor of the specification, moved; its axes start after ``first`` batch axes."""
        moved: Params = {}
        for name, axes in self.spec.annotations:
            tensor = params[name]
            for i, axis in enumerate(axes, first):
                index = self.of(axis, tensor.device)
                if self.rows is not None:
                    tensor = gather_rows(tensor, i, index)
                elif index is not None:
                    tensor = tensor.index_select(i, index)
            moved[name] = tensor
        return moved

    def _computed(self, axis: Axis) -> Tensor | None:
        cut = windows(self.spec, axis)
        if not any(window.moves for window in cut):
            return None
        if len(cut) == len(cut[0].atoms) == 1:
            return self._sources(cut[0])
        return torch.cat([self._sources(window) + window.start for window in cut], -1)

    def _sources(self, window: Window) -> Tensor:
        """Positions in a window that its positions come from, (*lead, length)."""
        first = window.atoms[0]
        if len(window.atoms) == 1 and isinstance(first, str):
            return self.indices[first]
        lead = () if self.rows is None else (self.rows,)
        # Row-major over the factors, as the window itself: (i_1 n_2 + i_2) n_3 + ...
        flat = torch.zeros((), dtype=torch.long)
        for k, size in enumerate(window.sizes):
            flat = flat * size + laid(window, k, self._old(window.atoms[k]))
        return flat.expand(*lead, *window.sizes).flatten(len(lead))

    def _old(self, atom: Atom) -> Tensor:
        """Where each index of a factor comes from; a fixed one stays."""
        if isinstance(atom, str):
            return self.indices[atom]
        return torch.arange(atom, device=next(iter(self.indices.values())).device)


def gather_rows(tensor: Tensor, axis: int, index: Tensor | None) -> Tensor:
    """Gather an axis of a stacked tensor (rows, ...) by one index (rows, length) for each row.

    None leaves the tensor as it is.
    """
    if index is None:
        return tensor
    rows = torch.arange(len(tensor), device=tensor.device)[:, None]
    return tensor.movedim(axis, 1)[rows, index].movedim(1, axis)


def laid(window: Window, factor: int, values: Tensor) -> Tensor:
    """Values of the units at one factor of a window, such that they broadcast over its sizes."""
    parent = window.parents[factor]
    varying = (factor,) if parent is None else (parent, factor)
    lead = values.shape[: values.dim() - len(varying)]
    return values.reshape(*lead, *(n if k in varying else 1 for k, n in enumerate(window.sizes)))


def spread(
    spec: PermutationSpec, place: Occurrence | Place, values: Tensor, *, elsewhere: float
) -> Tensor:
    """Values of a place's units at every position of its axis, (*lead, length).

    Other windows of the axis get ``elsewhere``.
    """
    cut = windows(spec, spec.axes[place.tensor][place.axis])
    sizes = cut[place.segment].sizes
    own = laid(cut[place.segment], place.factor, values)
    lead = own.shape[: own.dim() - len(sizes)]
    parts = [values.new_full((*lead, window.length), elsewhere) for window in cut]
    parts[place.segment] = own.expand(*lead, *sizes).flatten(len(lead))
    return torch.cat(parts, -1)


def across(values: Tensor, axis: int, axes: int) -> Tensor:
    """Values (*lead, length) of one of ``axes`` axes, such that they broadcast over all of them."""
    return values.view(*values.shape[:-1], *(-1 if i == axis else 1 for i in range(axes)))


def along(
    spec: PermutationSpec, place: Occurrence | Place, values: Tensor, *, elsewhere: float
) -> Tensor:
    """`spread`, such that it broadcasts over the tensor of the place."""
    values = spread(spec, place, values, elsewhere=elsewhere)
    return across(values, place.axis, len(spec.axes[place.tensor]))


@dataclasses.dataclass(frozen=True, eq=False)
class UnitAction:
    """What unit symmetries do to one tensor: D (theta + c) - c + t.

    D is the product of ``factors``, c the ``offset``, t the sum of ``shifts``.
    """

    offset: float
    factors: tuple[DeviceCopies, ...]
    shifts: tuple[DeviceCopies, ...]

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor, moved; leading axes are batch."""
        moved = tensor + self.offset if self.offset else tensor
        for factor in self.factors:
            moved = moved * factor.like(tensor)
        if self.offset:
            moved = moved - self.offset
        if self.shifts:
            first, *others = (shift.like(tensor) for shift in self.shifts)
            moved = moved + sum(others, first)
        return moved
