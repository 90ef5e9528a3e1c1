"""`PermutationBatch`: one group element for every row of a batch of checkpoints.

    (g.theta)[r, ..., i, ...] = theta[r, ..., pi_r(i), ...]

What `Permutation` does to all rows alike, done to each row by its own element: random symmetry as
an augmentation, and checkpoints aligned to one reference, need nothing else. Indexing moves values
and never rounds them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.action import IndexMaps
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.spec import Group, PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class PermutationBatch:
    """Elements of one group: ``indices[name]`` is int64 of shape (rows, size).

    For a family it is (rows, size of per, size).
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
            noise = torch.rand(*lead, group.size, generator=generator, dtype=torch.float64)
            return noise.argsort(-1)

        return cls(spec, {group.name: draw(group) for group in spec.declared})

    @classmethod
    def stack(cls, elements: Sequence[Permutation]) -> PermutationBatch:
        """One row for every element.

        Raises `SpecError` if there is none, or if they belong to different groups.
        """
        if len({element.spec for element in elements}) != 1:
            raise SpecError("stack needs at least one permutation, and all of one specification")
        spec = elements[0].spec
        return cls(
            spec, {name: torch.stack([e.indices[name] for e in elements]) for name in spec.groups}
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
        """Act on weights with one leading axis, a row for each element.

        Raises `SpecError` if the numbers of rows differ.
        """
        batch = self.spec.validate(params)
        if len(batch) != 1 or (self.indices and batch[0] != len(self)):
            raise SpecError(
                f"{len(self)} permutations need {len(self)} rows, but the weights have leading "
                f"axes {tuple(batch)}"
            )
        return self._maps.gather(params, 1)

    @functools.cached_property
    def _maps(self) -> IndexMaps:
        return IndexMaps(self.spec, self.indices, rows=len(self))
