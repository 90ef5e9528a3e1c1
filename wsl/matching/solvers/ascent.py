"""Coordinate ascent over blocks, of many checkpoints at once; one checkpoint is one row.

    A_rp = sum over sites of unfold(W_a, p) unfold(W_r, p)^T       step = argmax_P <A_rp, P>
    W_r <- step.W_r

Every step is relative to where a row stands, so the present state is always the identity and terms
need no gathering. Rows do not see each other: a row's result does not depend on its neighbours.

    family       S[a, a'] = sum over families of max_sigma sum_i A[(a, i), (a', sigma(i))]
    odd group    P = argmax <|A|, P>,  the signs s are those of the chosen entries

Both are exact for one block: heads are paired by their best inner assignments, and negating a unit
negates a column of A. A term is kept while nothing that it depends on moves, if it is no larger
than the weights it comes from; a block is visited only in rows where something that it depends on
has moved. Products are taken in the precision of the weights, at least float32, and summed in
float64; a step must gain more than the rounding of its products.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site, cut_rows, unfold
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.step import (
    ALL,
    BlockStep,
    Rows,
    Scores,
    choose,
    join,
    move_piece,
    move_term,
    pick,
    positions,
    put,
)

_PULLS = (0.0, 0.1, 0.3, 0.9)
"""How strongly to hold a step back that the gradient promises and the objective refuses.

At 1 nothing would move.
"""


class Ascent:
    """Moves the rows of b towards a.

    indices, signs: the element of each row so far. open: by block, the rows where it may yet
    improve. gained: what each row has gained in this sweep. seconds: spent in products and
    assignments.
    """

    def __init__(
        self,
        plan: MatchingPlan,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        *,
        odd: Sequence[str] = (),
    ) -> None:
        used = [a[piece.tensor] for piece in plan.pieces]
        like = torch.empty(0, dtype=torch.float32, device=used[0].device if used else None)
        like = like.double() if any(tensor.dtype == torch.float64 for tensor in used) else like
        self.plan, self.count = plan, len(next(iter(b.values())))
        self.inputs, self.like = (a, b), like
        self.a = [piece.cut(a, like) for piece in plan.pieces]
        self.b = [cut_rows(piece, b, like) for piece in plan.pieces]
        self.size = [float(x.norm()) for x in self.a]
        norms = [y.reshape(self.count, -1).norm(dim=1).double().cpu() for y in self.b]
        self.mass = [x * y for x, y in zip(self.size, norms, strict=True)]
        self.rounding = 4 * torch.finfo(like.dtype).eps
        self.indices: dict[str, Tensor] = {}
        self.signs = {name: like.new_ones(self.count, plan.blocks[name].size) for name in odd}
        self.open = {name: torch.ones(self.count, dtype=torch.bool) for name in plan.blocks}
        self.kept: dict[tuple[str, tuple[str, ...]], Scores] = {}
        self.gained = torch.zeros(self.count, dtype=torch.float64)
        self.seconds = {"products": 0.0, "assignment": 0.0}
        for block in plan.blocks.values():
            self.indices[block.group] = torch.arange(block.size).repeat(self.count, 1)
            for name, size in block.families:
                self.indices[name] = torch.arange(size).repeat(self.count, block.size, 1)

    @property
    def active(self) -> Tensor:
        """Rows in which some block may yet improve, bool (N,)."""
        active = torch.zeros(self.count, dtype=torch.bool)
        for rows in self.open.values():
            active |= rows
        return active

    def anchor(self, order: Sequence[str]) -> None:
        """Solve each block once, in this order, by its known terms; undone in rows that lose.

        The rest of a block's weight is ignored, since it is tied to axes that are still unknown.
        """
        indices = {name: index.clone() for name, index in self.indices.items()}
        signs, b = self.signs.copy(), self.b.copy()
        solved: dict[str, None] = {}
        for name in order:
            block = self.plan.blocks[name]
            known = block.known(solved)
            if len(known) == len(block.terms):
                self.open[name][:] = False
            self._take(block, self._best(block, self._scores(block, known, ALL), ALL))
            solved[name] = None
        everything = range(len(b))
        worse = self._value(everything, self.b) < self._value(everything, b)
        if bool(worse.any()):
            self._restore(worse, indices, signs, b)

    def _restore(
        self, rows: Tensor, indices: Mapping[str, Tensor], signs: Scores, b: Sequence[Tensor]
    ) -> None:
        self.b = [choose(rows, old, new) for old, new in zip(b, self.b, strict=True)]
        self.signs = {name: choose(rows, signs[name], new) for name, new in self.signs.items()}
        self.indices = {
            name: choose(rows, indices[name], new) for name, new in self.indices.items()
        }
        self.kept = {}
        for waiting in self.open.values():
            waiting |= rows

    def sweep(self, order: Sequence[str]) -> None:
        """Visit every block once, in this order, in the rows where it is open."""
        self.gained = torch.zeros_like(self.gained)
        for name in order:
            waiting = self.open[name]
            if bool(waiting.any()):
                rows = pick(ALL, waiting)
                self._improve(self.plan.blocks[name], rows)

    def _improve(self, block: GroupBlock, rows: Rows) -> None:
        self.open[block.group][rows] = False
        scores = self._scores(block, block.terms, rows)
        find = self._best if block.linear else self._climb
        step = find(block, scores, rows)
        self._take(block, step)
        for name, other in self.plan.blocks.items():
            if step is not None and any(block.group in others for others in other.terms):
                self.open[name][step.rows] = True

    def _scores(self, block: GroupBlock, terms: Iterable[tuple[str, ...]], rows: Rows) -> Scores:
        with self._timed("products"):
            return _total(self._term(block, others, rows) for others in terms)

    def _term(self, block: GroupBlock, others: tuple[str, ...], rows: Rows) -> Scores:
        if (block.group, others) in self.kept:
            kept = self.kept[block.group, others]
            return {name: matrix[rows] for name, matrix in kept.items()}
        sites = block.terms[others]
        term = _total(
            _gram(block, site, self.a[site.piece], self.b[site.piece][rows]) for site in sites
        )
        # Only what was computed for all rows can serve all of them later.
        weights = self.count * sum(self.a[site.piece].numel() for site in sites)
        if isinstance(rows, slice) and sum(m.numel() for m in term.values()) <= weights:
            self.kept[block.group, others] = term
        return term

    def _best(self, block: GroupBlock, scores: Scores, rows: Rows) -> BlockStep | None:
        """The assignments of largest linear score; None if no row gains over standing still."""
        if not scores:
            return None
        with self._timed("assignment"):
            total, inner = self._paired(block, scores)
            odd = block.group in self.signs
            group = assign(total.abs() if odd else total)
        chosen = total.gather(2, group[..., None])[..., 0]
        still = sum(m.diagonal(dim1=1, dim2=2).double().sum(1) for m in scores.values())
        gain = (chosen.abs() if odd else chosen).double().sum(1) - still
        step = BlockStep(
            rows,
            group,
            {
                name: index.take_along_dim(group[:, :, None, None], 2)[:, :, 0]
                for name, index in inner.items()
            },
            torch.where(chosen < 0, -1.0, 1.0).to(chosen) if odd else None,
            gain.cpu(),
        )
        good = step.gain > self._noise(block)[rows]
        return step.where(good) if bool(good.any()) else None

    def _paired(self, block: GroupBlock, scores: Scores) -> tuple[Tensor, Scores]:
        """Scores of the pairs of units, and for each pair the best assignment of its families."""
        n, like = block.size, next(iter(scores.values()))
        total = scores.get(block.group, like.new_zeros(len(like), n, n))
        inner: Scores = {}
        for name, size in block.families:
            pairs = (
                scores[name].reshape(-1, n, size, n, size).transpose(2, 3)
                if name in scores
                else like.new_zeros(len(like), n, n, size, size)
            )
            inner[name] = assign(pairs)
            total = total + pairs.gather(4, inner[name][..., None]).sum((3, 4))
        return total, inner

    def _climb(self, block: GroupBlock, scores: Scores, rows: Rows) -> BlockStep | None:
        """A step that gains where the scores are but a gradient, found by pulling it back.

        The pull towards standing still grows until the objective itself agrees, row by row.
        """
        here = self._value(block.pieces, self.b)
        margins = [(m.amax(2) - m.diagonal(dim1=1, dim2=2)).amax(1) for m in scores.values()]
        reach = torch.stack(margins).amax(0)[:, None, None]
        found: list[BlockStep] = []
        for pull in _PULLS:
            held = {
                name: matrix + pull * reach * torch.eye(matrix.shape[-1]).to(matrix)
                for name, matrix in scores.items()
            }
            step = self._best(block, held, rows)
            if step is None:
                break
            gain = self._value(block.pieces, self._moved(block, step)) - here[step.rows]
            step, good = step._replace(gain=gain), gain > self._noise(block)[step.rows]
            if bool(good.any()):
                found.append(step.where(good))
            # Rows that this pull holds in place are done; those that it moves in vain go on.
            if bool(good.all()):
                break
            refused = pick(step.rows, ~good)
            keep = positions(rows, refused, self.count)
            scores = {name: matrix[keep] for name, matrix in scores.items()}
            rows, reach = refused, reach[keep]
        return join(found)

    def _noise(self, block: GroupBlock) -> Tensor:
        total = torch.zeros(self.count, dtype=torch.float64)
        return self.rounding * sum((self.mass[p] for p in block.pieces), start=total)

    def value(self) -> Tensor:
        """<W_a, W_r> over all pieces, those that no group acts on included, float64 (N,)."""
        a, b = self.inputs
        still = [
            (piece.cut(a, self.like) * cut_rows(piece, b, self.like)).reshape(self.count, -1)
            for piece in self.plan.fixed
        ]
        total = self._value(range(len(self.b)), self.b).expand(self.count)
        return sum((part.sum(1, dtype=torch.float64).cpu() for part in still), start=total)

    def _value(self, which: Iterable[int], b: Sequence[Tensor] | Mapping[int, Tensor]) -> Tensor:
        parts = [(self.a[p] * b[p]).flatten(1).sum(1, dtype=torch.float64).cpu() for p in which]
        return sum(parts, start=torch.zeros(1, dtype=torch.float64))

    def _moved(self, block: GroupBlock, step: BlockStep) -> dict[int, Tensor]:
        return {
            p: move_piece(self.plan.pieces[p], self.b[p][step.rows], block=block, step=step)
            for p in block.pieces
        }

    def _take(self, block: GroupBlock, step: BlockStep | None) -> None:
        if step is None:
            return
        for p, moved in self._moved(block, step).items():
            self.b[p] = put(self.b[p], step.rows, moved)
        group, rows = step.group.cpu(), step.rows
        self.gained[rows] += step.gain
        index = self.indices[block.group]
        index[rows] = index[rows].gather(1, group)
        for name, inner in step.families.items():
            ours = self.indices[name][rows].take_along_dim(group[..., None], 1)
            self.indices[name][rows] = ours.gather(2, inner.cpu())
        if step.flip is not None:
            signs = self.signs[block.group]
            turned = signs[rows].gather(1, step.group) * step.flip
            self.signs[block.group] = put(signs, rows, turned)
        self.kept = {
            key: move_term(block, step, term) if key[0] == block.group else term
            for key, term in self.kept.items()
            if block.group not in key[1]
        }

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start


def _gram(block: GroupBlock, site: Site, a: Tensor, b: Tensor) -> Scores:
    """Units of the reference against units of each row."""
    if not site.families:
        return {block.group: _against(unfold(a[None], (site.axis,)), unfold(b, (site.axis,)))}
    return _total(
        {name: _against(unfold(a[None], (site.axis, axis)), unfold(b, (site.axis, axis)))}
        for name, axis in site.families
    )


def _against(a: Tensor, b: Tensor) -> Tensor:
    # One row is one plain product; many are one tall product, since a has no rows.
    return (a[0] @ b[0].T)[None] if len(b) == 1 else a[0] @ b.mT


def _total(terms: Iterable[Scores]) -> Scores:
    total: Scores = {}
    for term in terms:
        for name, matrix in term.items():
            total[name] = total[name] + matrix if name in total else matrix
    return total
