"""`match_many`: align many checkpoints to one reference, all rows at once.

    row r, one group p, others fixed:   A_rp = sum_t unfold(W_a^t, p) unfold(g_r.W_r^t, p)^T,   g_rp <- argmax_P <A_rp, P>

The coordinate ascent of `WeightMatching` with its anchored start (Ainsworth et al. 2023, arXiv 2209.04836), where products are
batched over rows and only the assignments are solved one by one. Rows do not see each other: a row's result does not depend on
which others stand beside it. Families and groups that act twice on one tensor are matched row by row, by `WeightMatching`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.assignment import assign
from wsl.matching.match import check_finite, match
from wsl.matching.pieces import Block, Piece, Plan, plan
from wsl.matching.weight import WeightMatching, voters
from wsl.params import unstack
from wsl.symmetry import PermutationBatch, PermutationSpec, SpecError, gather_rows


@torch.no_grad()
def match_many(
    spec: PermutationSpec,
    reference: Mapping[str, Tensor],
    checkpoints: Mapping[str, Tensor],
    *,
    matcher: WeightMatching | None = None,
) -> PermutationBatch:
    """Elements that bring stacked ``checkpoints`` (rows, *shape) to ``reference`` (no batch axes).

    Raises `SpecError` when weights do not fit the specification, ValueError when one is NaN or infinite.
    """
    matcher = matcher or WeightMatching()
    if spec.validate(reference):
        raise SpecError("reference: has batch axes, but one checkpoint is needed; index or unstack it first")
    if len(batch := spec.validate(checkpoints)) != 1 or not batch[0]:
        raise SpecError(f"checkpoints: leading axes {tuple(batch)}, but one axis with at least one row is needed")
    check_finite(reference, "reference")
    check_finite(checkpoints, "checkpoints")
    cut = plan(spec, voters(reference, matcher.ignore))
    if not all(block.linear and not block.families for block in cut.blocks.values()):
        return PermutationBatch.stack([match(spec, reference, row, matcher).permutation for row in unstack(checkpoints)])
    ascent = _Rows(cut, reference, checkpoints)
    if matcher.anchored:
        ascent.anchor()
    for _ in range(matcher.max_sweeps - matcher.anchored):
        gained = [ascent.improve(block, block.terms) for block in cut.blocks.values()]
        if not any(gained):
            break
    return PermutationBatch(spec, {name: ascent.indices[name] for name in spec.groups})


class _Rows:
    """Every checkpoint as moved so far, cut into pieces with a leading axis of rows."""

    def __init__(self, cut: Plan, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        self.plan, self.count = cut, len(next(iter(b.values())))
        self.a = [piece.cut(a, torch.empty(0, dtype=torch.float32)) for piece in cut.pieces]
        self.b = [_cut_rows(piece, b) for piece in cut.pieces]
        self.indices = {name: torch.arange(block.size).repeat(self.count, 1) for name, block in cut.blocks.items()}

    def anchor(self) -> None:
        """Solve each group once by its known terms, most known weight per unit first; undone in rows where it loses."""
        before, indices, value = self.b, dict(self.indices), self._value()
        solved: list[str] = []
        while len(solved) < len(self.plan.blocks):
            block, known = self._best_known(solved)
            self.improve(block, known)
            solved.append(block.group)
        worse = self._value() < value
        self.b = [torch.where(_column(worse, new), old, new) for old, new in zip(before, self.b, strict=True)]
        self.indices = {name: torch.where(worse[:, None], indices[name], new) for name, new in self.indices.items()}

    def _best_known(self, solved: Sequence[str]) -> tuple[Block, list[tuple[str, ...]]]:
        def mass(candidate: tuple[Block, list[tuple[str, ...]]]) -> float:
            block, known = candidate
            return sum(float(self.a[site.piece].norm()) ** 2 for others in known for site in block.terms[others]) / block.size

        waiting = [block for name, block in self.plan.blocks.items() if name not in solved]
        return max(((b, [others for others in b.terms if set(others) <= set(solved)]) for b in waiting), key=mass)

    def improve(self, block: Block, terms: Iterable[tuple[str, ...]]) -> bool:
        """Give each row the best permutation of one group by some of its terms; whether any row moved."""
        sites = [site for others in terms for site in block.terms[others]]
        if not sites:
            return False
        scores = torch.stack([_gram(self.a[s.piece], self.b[s.piece], s.axis) for s in sites]).sum(0)
        step, rows = assign(scores), torch.arange(block.size)
        gain = (scores.gather(2, step[..., None])[..., 0] - scores[:, rows, rows]).sum(1)
        moving = gain > 1e-6 * scores.abs().amax((1, 2))
        step = torch.where(moving[:, None], step, rows)
        if not moving.any():
            return False
        for p in block.pieces:
            for axis, atom in enumerate(self.plan.pieces[p].atoms, 1):
                if atom == block.group:
                    self.b[p] = gather_rows(self.b[p], axis, step)
        self.indices[block.group] = self.indices[block.group].gather(1, step)
        return True

    def _value(self) -> Tensor:
        total = torch.zeros(self.count, dtype=torch.float64)
        for a, b in zip(self.a, self.b, strict=True):
            total += (a * b).flatten(1).sum(1, dtype=torch.float64) if a.dim() else (a * b).double()
        return total


def _cut_rows(piece: Piece, params: Mapping[str, Tensor]) -> Tensor:
    tensor = params[piece.tensor]
    for axis, (start, length) in enumerate(piece.window, 1):
        tensor = tensor.narrow(axis, start, length)
    return tensor.reshape(len(tensor), *piece.shape).to("cpu", torch.float32)


def _gram(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """(rows, n, n): units of the reference against units of each row."""
    left = a.movedim(axis, 0).flatten(1) if a.dim() > 1 else a[:, None]
    right = b.movedim(axis + 1, 1).flatten(2) if a.dim() > 1 else b[..., None]
    return left @ right.mT


def _column(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.dim() - 1))
