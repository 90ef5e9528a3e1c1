"""The weights of one problem, cut into pieces: a reference, and the rows as moved so far.

Work is done on the device of the reference, in the precision of its weights, at least float32.
Inner products are summed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, cut_rows
from wsl.matching.solvers.step import BlockStep, choose, move_piece, put

Moved = Sequence[Tensor] | Mapping[int, Tensor]
"""Pieces of some rows, by their number in the plan."""


class CutWeights:
    """Pieces ``a`` (*shape) and ``b`` (N, *shape). mass: |a| |b_r| of each piece, float64 (N,)."""

    def __init__(
        self, plan: MatchingPlan, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
    ) -> None:
        self.plan, self.inputs, self.count = plan, (a, b), len(next(iter(b.values())))
        self.like = _like([a[piece.tensor] for piece in plan.pieces])
        self.a = [piece.cut(a, self.like) for piece in plan.pieces]
        self.b = [cut_rows(piece, b, self.like) for piece in plan.pieces]
        self.size = [float(x.norm()) for x in self.a]
        norms = [y.reshape(self.count, -1).norm(dim=1).double().cpu() for y in self.b]
        self.mass = [x * y for x, y in zip(self.size, norms, strict=True)]

    def value(self) -> Tensor:
        """<W_a, W_r> over all pieces, those that no group acts on included, float64 (N,)."""
        a, b = self.inputs
        total = self.inner(range(len(self.b)), self.b).expand(self.count)
        for piece in self.plan.fixed:
            still = piece.cut(a, self.like) * cut_rows(piece, b, self.like)
            total = total + still.reshape(self.count, -1).sum(1, dtype=torch.float64).cpu()
        return total

    def inner(self, which: Iterable[int], b: Moved) -> Tensor:
        """<W_a, W_r> over some pieces that groups act on, for the rows that ``b`` holds."""
        total = torch.zeros(1, dtype=torch.float64)
        for p in which:
            total = total + (self.a[p] * b[p]).flatten(1).sum(1, dtype=torch.float64).cpu()
        return total

    def noise(self, block: GroupBlock) -> Tensor:
        """How much rounding may feign as a gain of the block, float64 (N,)."""
        total = torch.zeros(self.count, dtype=torch.float64)
        for p in block.pieces:
            total += self.mass[p]
        return 4 * torch.finfo(self.like.dtype).eps * total

    def moved(self, block: GroupBlock, step: BlockStep) -> dict[int, Tensor]:
        """The pieces of the block in the rows of the step, after it."""
        return {
            p: move_piece(self.plan.pieces[p], self.b[p][step.rows], block=block, step=step)
            for p in block.pieces
        }

    def take(self, block: GroupBlock, step: BlockStep) -> None:
        """Make the step; tensors that stood before stay as they were."""
        for p, moved in self.moved(block, step).items():
            self.b[p] = put(self.b[p], step.rows, moved)

    def restore(self, rows: Tensor, b: Sequence[Tensor]) -> None:
        """Put the marked rows back to what they were."""
        self.b = [choose(rows, old, new) for old, new in zip(b, self.b, strict=True)]


def _like(used: Sequence[Tensor]) -> Tensor:
    like = torch.empty(0, dtype=torch.float32, device=used[0].device if used else None)
    return like.double() if any(tensor.dtype == torch.float64 for tensor in used) else like
