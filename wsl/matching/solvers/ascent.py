"""Coordinate ascent over blocks, of many checkpoints at once; one checkpoint is one row.

    A_rp = sum over sites of unfold(W_a, p) unfold(W_r, p)^T       step = argmax_P <A_rp, P>
    W_r <- step.W_r

Every step is relative to where a row stands, so the present state is always the identity and terms
need no gathering. Rows do not see each other: a row's result does not depend on its neighbours.

    family       S[a, a'] = sum over families of max_sigma sum_i A[(a, i), (a', sigma(i))]
    odd group    P = argmax <|A|, P>,  the signs s are those of the chosen entries

Both are exact for one block: heads are paired by their best inner assignments, and negating a unit
negates a column of A. A term is kept while nothing that it depends on moves, if it is no larger
than the weights it comes from; where few units of one row move, it is changed by their products,

    A_p  +=  sum over sites, moved units i of   W_a[:, i] (W_r[:, pi(i)] - W_r[:, i])^T

A block is visited only in rows where something that it depends on has moved. Products are taken in
the precision of the weights, at least float32, and summed in float64; a step must gain more than
the rounding of its products.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.clock import Clock
from wsl.matching.solvers.cut import RowWeights
from wsl.matching.solvers.found import FoundRows
from wsl.matching.solvers.gram import total
from wsl.matching.solvers.step import (
    ALL,
    BlockStep,
    MovedUnits,
    Rows,
    Scores,
    join,
    move_term,
    pick,
    positions,
)

_PULLS = (0.0, 0.1, 0.3, 0.9)
"""How strongly to hold a step back that the gradient promises and the objective refuses.

At 1 nothing would move.
"""


class Ascent:
    """Moves the rows of b towards a.

    weights, found: the pieces as moved so far, and the element that moved them. open: by block, the
    rows where it may yet improve. gained: what each row has gained in this sweep. clock: the time
    spent in products and assignments.
    """

    def __init__(
        self,
        plan: MatchingPlan,
        weights: RowWeights,
        *,
        odd: Sequence[str] = (),
    ) -> None:
        self.plan, self.weights = plan, weights
        self.count = weights.count
        self.found = FoundRows(plan, self.count, odd)
        self.open = {name: torch.ones(self.count, dtype=torch.bool) for name in plan.blocks}
        self.kept: dict[tuple[str, tuple[str, ...]], Scores] = {}
        self.gained = torch.zeros(self.count, dtype=torch.float64)
        self.clock = Clock()

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
        found, before = self.found.copy(), self.weights.state()
        self._solve_known(order)
        everything = range(len(self.plan.pieces))
        now = self.weights.inner(everything, self.weights.state())
        worse = now < self.weights.inner(everything, before)
        if bool(worse.any()):
            self.weights.restore(worse, before)
            self.found.restore(worse, found)
            self.kept = {}
            for waiting in self.open.values():
                waiting |= worse

    def _solve_known(self, order: Sequence[str]) -> None:
        solved: dict[str, None] = {}
        for name in order:
            block = self.plan.blocks[name]
            known = block.known(solved)
            if len(known) == len(block.terms):
                self.open[name][:] = False
            self._take(block, self._first(block, known, solved))
            solved[name] = None

    def _first(
        self, block: GroupBlock, known: list[tuple[str, ...]], solved: Collection[str]
    ) -> BlockStep | None:
        """The step that the known terms ask for, or what can be told without any."""
        if block.group in self.weights.apart:
            return self._apart(block, known)
        scores = self._scores(block, known, ALL) if known else self._blind(block, solved)
        return self._best(block, scores, ALL)

    def sweep(self, order: Sequence[str]) -> None:
        """Visit every block once, in this order, in the rows where it is open."""
        self.gained = torch.zeros_like(self.gained)
        for name in order:
            if bool(self.open[name].any()):
                self._improve(self.plan.blocks[name], pick(ALL, self.open[name]))

    def _improve(self, block: GroupBlock, rows: Rows) -> None:
        self.open[block.group][rows] = False
        step = self._improving(block, rows)
        self._take(block, step)
        for name, other in self.plan.blocks.items():
            if step is not None and any(block.group in others for others in other.terms):
                self.open[name][step.rows] = True

    def _improving(self, block: GroupBlock, rows: Rows) -> BlockStep | None:
        if block.group in self.weights.apart:
            return self._apart(block, list(block.terms))
        find = self._best if block.linear else self._climb
        return find(block, self._scores(block, block.terms, rows), rows)

    def _apart(self, block: GroupBlock, terms: list[tuple[str, ...]]) -> BlockStep | None:
        """What the weights propose for a block with too many scores; None if it gains nothing."""
        if not terms:
            return None
        with self.clock.timed("products"):
            step = self.weights.apart[block.group](terms)
        good = step.gain > self.weights.noise(block)
        return step if bool(good.all()) else None

    def _scores(self, block: GroupBlock, terms: Iterable[tuple[str, ...]], rows: Rows) -> Scores:
        with self.clock.timed("products"):
            return total(self._term(block, others, rows) for others in terms)

    def _blind(self, block: GroupBlock, solved: Collection[str]) -> Scores:
        """Scores of a block about which nothing is known, whatever the order on unknown axes."""
        with self.clock.timed("products"):
            return self.weights.blind(block, solved, unsigned=bool(self.found.signs))

    def _term(self, block: GroupBlock, others: tuple[str, ...], rows: Rows) -> Scores:
        if (block.group, others) in self.kept:
            return _of_rows(self.kept[block.group, others], rows)
        term = self.weights.term(block, others, rows)
        if isinstance(rows, slice) and self._worth(block, others, term):
            self.kept[block.group, others] = term
        return term

    def _worth(self, block: GroupBlock, others: tuple[str, ...], term: Scores) -> bool:
        """Whether to keep what was computed for all rows; only that can serve all of them later.

        A block is opened when something that one of its terms depends on has moved, so that a
        single term would always be computed anew.
        """
        size = sum(matrix.numel() for matrix in term.values())
        kept = sum(m.numel() for scores in self.kept.values() for m in scores.values())
        return (
            len(block.terms) > 1
            and size <= self.weights.entries(block.terms[others])
            and kept + size <= self.weights.most_kept
        )

    def _best(self, block: GroupBlock, scores: Scores, rows: Rows) -> BlockStep | None:
        """The assignments of largest linear score; None if no row gains over standing still."""
        if not scores:
            return None
        with self.clock.timed("assignment"):
            step = _assigned(block, scores, rows, odd=block.group in self.found.signs)
        good = step.gain > self.weights.noise(block)[rows]
        return step.where(good) if bool(good.any()) else None

    def _climb(self, block: GroupBlock, scores: Scores, rows: Rows) -> BlockStep | None:
        """A step that gains where the scores are but a gradient, found by pulling it back.

        The pull towards standing still grows until the objective itself agrees, row by row.
        """
        here = self.weights.inner(block.pieces, self.weights.state())
        found: list[BlockStep] = []
        for pull in _PULLS:
            step = self._best(block, _held(scores, pull), rows)
            if step is None:
                break
            step, good = self._weighed(block, step, here)
            found += [step.where(good)] if bool(good.any()) else []
            if bool(good.all()):
                break
            # Rows that this pull holds in place are done; those that it moves in vain go on.
            refused = pick(step.rows, ~good)
            scores, rows = _of_rows(scores, positions(rows, refused, self.count)), refused
        return join(found)

    def _weighed(
        self, block: GroupBlock, step: BlockStep, here: Tensor
    ) -> tuple[BlockStep, Tensor]:
        """The step with what the objective gains by it over ``here``, and where that is enough."""
        there = self.weights.inner(block.pieces, self.weights.after(block, step))
        gain = there - here[step.rows]
        return step._replace(gain=gain), gain > self.weights.noise(block)[step.rows]

    def _take(self, block: GroupBlock, step: BlockStep | None) -> None:
        if step is None:
            return
        self.kept = self._kept_after(block, step)
        self.weights.take(block, step)
        self.found.take(block, step)
        self.gained[step.rows] += step.gain

    def _kept_after(
        self, block: GroupBlock, step: BlockStep
    ) -> dict[tuple[str, tuple[str, ...]], Scores]:
        """The kept terms after a step that is still to be made, without those that must be new.

        Where few units move, what depends on them changes by their products alone.
        """
        few = MovedUnits.of(block, step)
        after: dict[tuple[str, tuple[str, ...]], Scores] = {}
        for (name, others), term in self.kept.items():
            if block.group not in others:
                moves = name == block.group
                after[name, others] = move_term(block, step, term) if moves else term
            elif few is not None and self._acts_once(block.group, name, others):
                change = self._change(self.plan.blocks[name], others, few)
                after[name, others] = total([term, change])
        return after

    def _change(self, block: GroupBlock, others: tuple[str, ...], units: MovedUnits) -> Scores:
        with self.clock.timed("products"):
            return self.weights.change(block, others, units)

    def _acts_once(self, group: str, name: str, others: tuple[str, ...]) -> bool:
        """Whether ``group`` has one axis on each piece of a term of another block."""
        sites = self.plan.blocks[name].terms[others]
        return name != group and all(
            self.plan.pieces[site.piece].atoms.count(group) == 1 for site in sites
        )


def _assigned(block: GroupBlock, scores: Scores, rows: Rows, *, odd: bool) -> BlockStep:
    """The assignments of largest linear score, |A| of an ``odd`` group, and what they gain."""
    total, inner = paired(block, scores)
    group = assign(total.abs() if odd else total)
    chosen, flip = total.gather(2, group[..., None])[..., 0], None
    if odd:
        flip = torch.where(chosen < 0, -1.0, 1.0).to(chosen)
        chosen = chosen.abs()
    gain = chosen.double().sum(1) - sum(_diagonal(m).double().sum(1) for m in scores.values())
    return BlockStep(rows, group, of_chosen(inner, group), flip, gain.cpu())


def _diagonal(matrices: Tensor) -> Tensor:
    """What every unit scores where it is, (R, n)."""
    return matrices.diagonal(dim1=1, dim2=2)


def _of_rows(scores: Scores, rows: Rows) -> Scores:
    return {name: matrix[rows] for name, matrix in scores.items()}


def paired(block: GroupBlock, scores: Scores) -> tuple[Tensor, Scores]:
    """Scores of the pairs of units, and for each pair the best assignment of its families."""
    n, like = block.size, next(iter(scores.values()))

    def of(name: str, size: int) -> Tensor:
        return scores[name] if name in scores else like.new_zeros(len(like), size, size)

    total, inner = of(block.group, n), {}
    for name, size in block.families:
        pairs = of(name, n * size).reshape(-1, n, size, n, size).transpose(2, 3)
        inner[name] = assign(pairs)
        total = total + pairs.gather(4, inner[name][..., None]).sum((3, 4))
    return total, inner


def of_chosen(inner: Scores, group: Tensor) -> Scores:
    """Of the assignments (R, n, n, k) of all pairs those of the chosen ones, (R, n, k)."""
    chosen = group[:, :, None, None]
    return {name: index.take_along_dim(chosen, 2)[:, :, 0] for name, index in inner.items()}


def _held(scores: Scores, pull: float) -> Scores:
    """Scores that reward standing still by ``pull`` times the most that any unit could gain."""
    margins = [(m.amax(2) - _diagonal(m)).amax(1) for m in scores.values()]
    reach = torch.stack(margins).amax(0)[:, None, None]
    return {
        name: matrix + pull * reach * torch.eye(matrix.shape[-1]).to(matrix)
        for name, matrix in scores.items()
    }
