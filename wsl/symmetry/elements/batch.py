"""`PermutationBatch`: one group element for every row of a batch of checkpoints, applied in one
gather for each axis.

    (g.theta)[r, ..., i, ...] = theta[r, ..., pi_r(i), ...]

What `Permutation` does to all rows alike, done to each row by its own element: random symmetry as
an augmentation, and checkpoints aligned to one reference, need nothing else. Indexing moves values
and never rounds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.spec import Axis, Group, PermutationSpec, Segment, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class PermutationBatch:
    """Elements of one group: ``indices[name]`` is int64 of shape (rows, size), or (rows, size of
    per, size).
    """

    spec: PermutationSpec
    indices: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if set(self.indices) != set(self.spec.groups):
            raise SpecError(
                f"groups {sorted(self.indices)} given, but the specification has "
                f"{sorted(self.spec.groups)}"
            )
        if len({len(index) for index in self.indices.values()}) > 1:
            raise SpecError("a batch of permutations needs the same number of rows for every group")

    @classmethod
    def random(
        cls, spec: PermutationSpec, rows: int, generator: torch.Generator | None = None
    ) -> PermutationBatch:
        """Independent uniformly random elements."""

        def draw(group: Group) -> Tensor:
            lead = (rows,) if group.per is None else (rows, spec.groups[group.per])
            return torch.rand(*lead, group.size, generator=generator, dtype=torch.float64).argsort(
                -1
            )

        return cls(spec, {group.name: draw(group) for group in spec.declared})

    @classmethod
    def stack(cls, elements: Sequence[Permutation]) -> PermutationBatch:
        """One row for every element; raises `SpecError` if there is none, or if they belong to
        different groups.
        """
        if len({element.spec for element in elements}) != 1:
            raise SpecError("stack needs at least one permutation, and all of one specification")
        spec = elements[0].spec
        return cls(
            spec,
            {
                name: torch.stack([element.indices[name] for element in elements])
                for name in spec.groups
            },
        )

    def __len__(self) -> int:
        return len(next(iter(self.indices.values()))) if self.indices else 0

    def __getitem__(self, rows: Tensor | slice) -> PermutationBatch:
        """The elements of some rows."""
        return PermutationBatch(
            self.spec, {name: index[rows] for name, index in self.indices.items()}
        )

    def element(self, row: int) -> Permutation:
        """One row's element."""
        return Permutation(self.spec, {name: index[row] for name, index in self.indices.items()})

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights with one leading axis, a row for each element; raises `SpecError` if the
        numbers differ.
        """
        batch = self.spec.validate(params)
        if len(batch) != 1 or (self.indices and batch[0] != len(self)):
            raise SpecError(
                f"{len(self)} permutations need {len(self)} rows, but the weights have leading "
                f"axes {tuple(batch)}"
            )
        moved: Params = {}
        known: dict[tuple[Axis, torch.device], Tensor | None] = {}
        for name, axes in self.spec.annotations:
            tensor = params[name]
            for i, axis in enumerate(axes, 1):
                if (axis, tensor.device) not in known:
                    known[axis, tensor.device] = self._axis_index(axis, tensor.device)
                tensor = gather_rows(tensor, i, known[axis, tensor.device])
            moved[name] = tensor
        return moved

    def _axis_index(self, axis: Axis, device: torch.device) -> Tensor | None:
        if all(isinstance(atom, int) for segment in axis for atom in segment):
            return None
        parts, start = [], 0
        for segment in axis:
            parts.append(self._segment_index(segment).expand(len(self), -1) + start)
            start += self.spec.segment_size(segment)
        return torch.cat(parts, 1).to(device, non_blocking=True)

    def _segment_index(self, segment: Segment) -> Tensor:
        """Row-major positions (rows or 1, size of the segment) that the segment's positions come
        from.
        """
        sizes = [self.spec.segment_size((atom,)) for atom in segment]
        per = {group.name: group.per for group in self.spec.declared}
        flat = torch.zeros(1, *[1] * len(sizes), dtype=torch.long)
        for k, atom in enumerate(segment):
            if isinstance(atom, int):
                here, along = torch.arange(atom)[None], [k]
            else:
                here, along = (
                    self.indices[atom],
                    [k] if per[atom] is None else [segment.index(str(per[atom])), k],
                )
            shape = [len(here), *(size if i in along else 1 for i, size in enumerate(sizes))]
            flat = flat * sizes[k] + here.reshape(shape)
        return flat.expand(-1, *sizes).flatten(1)


def gather_rows(tensor: Tensor, axis: int, index: Tensor | None) -> Tensor:
    """Gather ``axis`` of a stacked tensor (rows, ...) by one index (rows, length) for each row;
    None leaves it.
    """
    if index is None:
        return tensor
    rows = torch.arange(len(tensor), device=tensor.device)[:, None]
    return tensor.movedim(axis, 1)[rows, index].movedim(1, axis)
