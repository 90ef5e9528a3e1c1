"""`match_many`: align many checkpoints to one reference, all rows at once.

    row r, one group p, others fixed:   A_rp = sum_t unfold(W_a^t, p) unfold(g_r.W_r^t, p)^T,   g_rp
        <- argmax_P <A_rp, P>

The coordinate ascent of `WeightMatching` with its anchored start (Ainsworth et al. 2023, arXiv
2209.04836), where products are batched over rows and only the assignments are solved one by one.
Rows do not see each other: a row's result does not depend on which others stand beside it. Families
and groups that act twice on one tensor are matched row by row, by `WeightMatching`.

    odd groups (sin, tanh):   argmax over P and s in {-1, 1}^n of <A_rp, diag(s) P>:   P = argmax
        <|A_rp|, P>,  s its signs

Negating a unit negates a column of A_rp, so the assignment on absolute values with the signs of the
chosen entries is exact for one group; no pass lowers <W_a, g.W_r>. Signs are not matched where a
group is a family or acts twice on one tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import overload

import torch
from torch import Tensor

from wsl.matching.problem import check_finite, match
from wsl.matching.solvers import WeightMatching, assign, voters
from wsl.params import unstack
from wsl.symmetry import (
    Block,
    PermutationBatch,
    PermutationSpec,
    Piece,
    Plan,
    SignedBatch,
    SpecError,
    check_odd,
    gather_rows,
    plan,
)


@overload
def match_many(
    spec: PermutationSpec,
    reference: Mapping[str, Tensor],
    checkpoints: Mapping[str, Tensor],
    *,
    matcher: WeightMatching | None = None,
) -> PermutationBatch: ...


@overload
def match_many(
    spec: PermutationSpec,
    reference: Mapping[str, Tensor],
    checkpoints: Mapping[str, Tensor],
    *,
    odd: Sequence[str],
    matcher: WeightMatching | None = None,
) -> SignedBatch: ...


@torch.no_grad()
def match_many(
    spec: PermutationSpec,
    reference: Mapping[str, Tensor],
    checkpoints: Mapping[str, Tensor],
    *,
    odd: Sequence[str] | None = None,
    matcher: WeightMatching | None = None,
) -> PermutationBatch | SignedBatch:
    """Elements that bring stacked ``checkpoints`` (rows, *shape) to ``reference`` (no batch axes).

    With ``odd``, groups whose activation is odd, the elements are a `SignedBatch`: signs are
    matched too. Raises `SpecError` when weights do not fit the specification, ValueError when one
    is NaN or infinite.
    """
    check_odd(spec, odd or ())
    matcher = matcher or WeightMatching()
    if spec.validate(reference):
        raise SpecError(
            "reference: has batch axes, but one checkpoint is needed; index or unstack it first"
        )
    if len(batch := spec.validate(checkpoints)) != 1 or not batch[0]:
        raise SpecError(
            f"checkpoints: leading axes {tuple(batch)}, but one axis with at least one row is "
            "needed"
        )
    check_finite(reference, "reference")
    check_finite(checkpoints, "checkpoints")
    cut = plan(spec, voters(reference, matcher.ignore))
    hard = [name for name, block in cut.blocks.items() if block.families or not block.linear]
    if hard and odd:
        raise SpecError(
            f"group '{hard[0]}' has families or acts twice on one tensor, where signs are not "
            "matched; leave out odd"
        )
    if hard:
        found = PermutationBatch.stack(
            [match(spec, reference, row, matcher).permutation for row in unstack(checkpoints)]
        )
        return found if odd is None else SignedBatch(found, {})
    ascent = _Rows(cut, reference, checkpoints, odd=odd or ())
    if matcher.anchored:
        ascent.anchor()
    for _ in range(matcher.max_sweeps - matcher.anchored):
        gained = [ascent.improve(block, block.terms) for block in cut.blocks.values()]
        if not any(gained):
            break
    found = PermutationBatch(spec, {name: ascent.indices[name] for name in spec.groups})
    return found if odd is None else SignedBatch(found, ascent.signs)


class _Rows:
    """Every checkpoint as moved so far, cut into pieces with a leading axis of rows."""

    def __init__(
        self, cut: Plan, a: Mapping[str, Tensor], b: Mapping[str, Tensor], *, odd: Sequence[str]
    ) -> None:
        self.plan, self.count = cut, len(next(iter(b.values())))
        self.a = [piece.cut(a, torch.empty(0, dtype=torch.float32)) for piece in cut.pieces]
        self.b = [_cut_rows(piece, b) for piece in cut.pieces]
        self.indices = {
            name: torch.arange(block.size).repeat(self.count, 1)
            for name, block in cut.blocks.items()
        }
        self.signs = {name: torch.ones(self.count, cut.blocks[name].size) for name in odd}

    def anchor(self) -> None:
        """Solve each group once by its known terms, most known weight per unit first; undone in
        rows where it loses.
        """
        before, indices, signs, value = (
            list(self.b),
            dict(self.indices),
            dict(self.signs),
            self._value(),
        )
        solved: list[str] = []
        while len(solved) < len(self.plan.blocks):
            block, known = self._best_known(solved)
            self.improve(block, known)
            solved.append(block.group)
        worse = self._value() < value
        self.b = [
            torch.where(_column(worse, new), old, new)
            for old, new in zip(before, self.b, strict=True)
        ]
        self.indices = {
            name: torch.where(worse[:, None], indices[name], new)
            for name, new in self.indices.items()
        }
        self.signs = {
            name: torch.where(worse[:, None], signs[name], new) for name, new in self.signs.items()
        }

    def _best_known(self, solved: Sequence[str]) -> tuple[Block, list[tuple[str, ...]]]:
        def mass(candidate: tuple[Block, list[tuple[str, ...]]]) -> float:
            block, known = candidate
            return (
                sum(
                    float(self.a[site.piece].norm()) ** 2
                    for others in known
                    for site in block.terms[others]
                )
                / block.size
            )

        waiting = [block for name, block in self.plan.blocks.items() if name not in solved]
        return max(
            ((b, [others for others in b.terms if set(others) <= set(solved)]) for b in waiting),
            key=mass,
        )

    def improve(self, block: Block, terms: Iterable[tuple[str, ...]]) -> bool:
        """Give each row the best permutation, and signs, of one group by some of its terms; whether
        any row moved.
        """
        sites = [site for others in terms for site in block.terms[others]]
        if not sites:
            return False
        scores = torch.stack([_gram(self.a[s.piece], self.b[s.piece], s.axis) for s in sites]).sum(
            0
        )
        odd, rows = block.group in self.signs, torch.arange(block.size)
        step = assign(scores.abs() if odd else scores)
        chosen = scores.gather(2, step[..., None])[..., 0]
        flip = torch.where((chosen < 0) & odd, -1.0, 1.0)
        gain = (flip * chosen - scores[:, rows, rows]).sum(1)
        moving = gain > 1e-6 * scores.abs().amax((1, 2))
        if not moving.any():
            return False
        self._move(
            block, torch.where(moving[:, None], step, rows), torch.where(moving[:, None], flip, 1.0)
        )
        return True

    def _move(self, block: Block, step: Tensor, flip: Tensor) -> None:
        odd = block.group in self.signs
        for p in block.pieces:
            axis = 1 + self.plan.pieces[p].atoms.index(block.group)
            self.b[p] = gather_rows(self.b[p], axis, step)
            if odd:
                self.b[p] = self.b[p] * flip.view(
                    self.count, *[1] * (axis - 1), -1, *[1] * (self.b[p].dim() - axis - 1)
                )
        self.indices[block.group] = self.indices[block.group].gather(1, step)
        if odd:
            self.signs[block.group] = self.signs[block.group].gather(1, step) * flip

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
