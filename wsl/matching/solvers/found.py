"""The element of each row as found so far: indices of all groups, and signs of the odd ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan
from wsl.matching.solvers.step import BlockStep, Rows, choose


def _gather(values: Tensor, rows: Rows, group: Tensor) -> None:
    """Take the units of some rows in the order ``group``, in place."""
    values[rows] = values[rows].gather(1, group)


class FoundRows:
    """``indices``, int64 (N, n) or (N, n, k) for a family, and ``signs`` (N, n); on the CPU."""

    def __init__(self, plan: MatchingPlan, count: int, odd: Sequence[str]) -> None:
        self.signs = {name: torch.ones(count, plan.blocks[name].size) for name in odd}
        self.indices: dict[str, Tensor] = {}
        for block in plan.blocks.values():
            self.indices[block.group] = torch.arange(block.size).repeat(count, 1)
            for name, size in block.families:
                self.indices[name] = torch.arange(size).repeat(count, block.size, 1)

    def take(self, block: GroupBlock, step: BlockStep) -> None:
        """Compose the elements of some rows with the step, in place."""
        group, rows = step.group.cpu(), step.rows
        _gather(self.indices[block.group], rows, group)
        for name, inner in step.families.items():
            index = self.indices[name]
            ours = index[rows].take_along_dim(group[..., None], 1)
            index[rows] = ours.gather(2, inner.cpu())
        if step.flip is not None:
            signs = self.signs[block.group]
            _gather(signs, rows, group)
            signs[rows] *= step.flip.to("cpu", torch.float32)

    @property
    def still(self) -> bool:
        """Whether every element moves and negates nothing."""
        return all(bool((s > 0).all()) for s in self.signs.values()) and all(
            torch.equal(index, torch.arange(index.shape[-1]).expand_as(index))
            for index in self.indices.values()
        )

    def clone(self) -> FoundRows:
        """The same elements, which later steps leave as they are."""
        new = copy.copy(self)
        new.indices, new.signs = self.copy()
        return new

    def copy(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Indices and signs as they are now."""
        return (
            {name: index.clone() for name, index in self.indices.items()},
            {name: signs.clone() for name, signs in self.signs.items()},
        )

    def restore(self, rows: Tensor, kept: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
        """Put the marked rows back to a `copy`."""
        for now, before in zip((self.indices, self.signs), kept, strict=True):
            for name, new in now.items():
                now[name] = choose(rows, before[name], new)
