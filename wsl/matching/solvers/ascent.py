"""The state of a coordinate ascent over blocks: the weights of b as moved so far, and what may
still improve.

    A_p = sum over sites of unfold(W_a, p) unfold(W_b, p)^T,   step = argmax_P <A_p, P>,   W_b <-
        step.W_b

Every step is relative to where b stands, so the present state is always the identity and terms need
no gathering. A family pairs heads by their best inner assignments: S[a, a'] = sum over families of
max_sigma sum_i A[(a, i), (a', sigma(i))], exact for one block. A term is kept while nothing that it
depends on moves, if it is no larger than the weights it comes from; a block is visited only when
something that it depends on has moved. Products are taken in the precision of the weights, at least
float32, and summed in float64; a step must gain more than the rounding of its products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.solvers.assignment import assign
from wsl.symmetry import Block, Piece, Plan, Site, unfold

Scores = dict[str, Tensor]
"""The matrix A of a block's group (n, n), and of each of its families (n k, n k), by name."""
_PULLS = (0.0, 0.1, 0.3, 0.9)
"""How strongly to hold a step back that the gradient promises and the objective refuses; at 1
nothing would move.
"""


class Step(NamedTuple):
    """A relative permutation of one block: (step.b)[a, j] = b[group[a], families[a, j]]."""

    group: Tensor
    families: Scores


class Ascent:
    """Moves b towards a; ``indices`` is the permutation so far, ``open`` the blocks that may yet
    improve.
    """

    def __init__(
        self,
        plan: Plan,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        *,
        indices: Mapping[str, Tensor],
    ) -> None:
        used = [a[piece.tensor] for piece in plan.pieces]
        like = torch.empty(0, dtype=torch.float32, device=used[0].device if used else None)
        like = like.double() if any(tensor.dtype == torch.float64 for tensor in used) else like
        self.plan, self.indices, self.open = plan, dict(indices), list(plan.blocks)
        self.a = [piece.cut(a, like) for piece in plan.pieces]
        self.b = [piece.cut(b, like) for piece in plan.pieces]
        self.mass = [float(x.norm()) * float(y.norm()) for x, y in zip(self.a, self.b, strict=True)]
        self.rounding = 4 * torch.finfo(like.dtype).eps
        self.kept: dict[tuple[str, tuple[str, ...]], Scores] = {}

    def anchor(self) -> None:
        """Solve each block once by its known terms, most known weight per unit first; undone if the
        identity is better.
        """
        indices, b = self.indices.copy(), self.b.copy()
        solved: dict[str, None] = {}
        while len(solved) < len(self.plan.blocks):
            block, known = self._best_known(solved)
            if len(known) == len(block.terms):
                self.open.remove(block.group)
            self._take(block, self._best(block, self._scores(block, known)))
            solved[block.group] = None
        everything = range(len(b))
        if self._value(everything, self.b) < self._value(everything, b):
            self.indices, self.b = indices, b
            self.open, self.kept = list(self.plan.blocks), {}

    def _best_known(self, solved: Mapping[str, None]) -> tuple[Block, list[tuple[str, ...]]]:
        def mass(candidate: tuple[Block, list[tuple[str, ...]]]) -> float:
            block, known = candidate
            return (
                sum(self.mass[site.piece] for others in known for site in block.terms[others])
                / block.size
            )

        waiting = [block for name, block in self.plan.blocks.items() if name not in solved]
        return max(
            (
                (block, [others for others in block.terms if all(p in solved for p in others)])
                for block in waiting
            ),
            key=mass,
        )

    def sweep(self, rng: torch.Generator) -> None:
        """Visit every open block once, in random order."""
        names = list(self.plan.blocks)
        for k in torch.randperm(len(names), generator=rng).tolist():
            if names[k] in self.open:
                self.open.remove(names[k])
                self._improve(self.plan.blocks[names[k]])

    def _improve(self, block: Block) -> None:
        scores = self._scores(block, block.terms)
        step = self._best(block, scores) if block.linear else self._climb(block, scores)
        if self._take(block, step):
            self.open += [
                name
                for name, other in self.plan.blocks.items()
                if name not in self.open and any(block.group in others for others in other.terms)
            ]

    def _scores(self, block: Block, terms: Iterable[tuple[str, ...]]) -> Scores:
        return _total(self._term(block, others) for others in terms)

    def _term(self, block: Block, others: tuple[str, ...]) -> Scores:
        if (block.group, others) in self.kept:
            return self.kept[block.group, others]
        sites = block.terms[others]
        term = _total(_gram(block, site, self.a[site.piece], self.b[site.piece]) for site in sites)
        if sum(matrix.numel() for matrix in term.values()) <= sum(
            self.a[site.piece].numel() for site in sites
        ):
            self.kept[block.group, others] = term
        return term

    def _best(self, block: Block, scores: Scores) -> Step | None:
        """The assignment of largest linear score; None if it gains nothing over standing still."""
        if not scores:
            return None
        n, like = block.size, next(iter(scores.values()))
        total, rows = (
            scores.get(block.group, like.new_zeros(n, n)),
            torch.arange(n, device=like.device),
        )
        inner: Scores = {}
        for name, size in block.families:
            pairs = (
                scores[name].view(n, size, n, size).transpose(1, 2)
                if name in scores
                else like.new_zeros(n, n, size, size)
            )
            inner[name] = assign(pairs)
            total = total + pairs.gather(3, inner[name][..., None]).sum((2, 3))
        group = assign(total)
        gain = total[rows, group].double().sum() - sum(
            matrix.diagonal().double().sum() for matrix in scores.values()
        )
        if gain <= self._noise(block):
            return None
        return Step(group, {name: index[rows, group] for name, index in inner.items()})

    def _climb(self, block: Block, scores: Scores) -> Step | None:
        """A step that gains where the scores are but a gradient: pulled towards standing still
        until it does.
        """
        here = self._value(block.pieces, self.b)
        reach = max(float((matrix.amax(1) - matrix.diagonal()).max()) for matrix in scores.values())
        for pull in _PULLS:
            held = {
                name: matrix + pull * reach * torch.eye(len(matrix)).to(matrix)
                for name, matrix in scores.items()
            }
            step = self._best(block, held)
            if step is None:
                return None
            if self._value(block.pieces, self._moved(block, step)) - here > self._noise(block):
                return step
        return None

    def _noise(self, block: Block) -> float:
        return self.rounding * sum(self.mass[p] for p in block.pieces)

    def _value(self, which: Iterable[int], b: Sequence[Tensor] | Mapping[int, Tensor]) -> float:
        return sum(float((self.a[p] * b[p]).sum(dtype=torch.float64)) for p in which)

    def _moved(self, block: Block, step: Step) -> dict[int, Tensor]:
        return {
            p: _move(self.plan.pieces[p], self.b[p], block=block, step=step) for p in block.pieces
        }

    def _take(self, block: Block, step: Step | None) -> bool:
        if step is None:
            return False
        for p, moved in self._moved(block, step).items():
            self.b[p] = moved
        group = step.group.cpu()
        self.indices[block.group] = self.indices[block.group][group]
        for name, index in step.families.items():
            self.indices[name] = self.indices[name][group].gather(1, index.cpu())
        self.kept = {
            key: _columns(block, step, term) if key[0] == block.group else term
            for key, term in self.kept.items()
            if block.group not in key[1]
        }
        return True


def _gram(block: Block, site: Site, a: Tensor, b: Tensor) -> Scores:
    if not site.families:
        return {block.group: unfold(a, (site.axis,)) @ unfold(b, (site.axis,)).T}
    return _total(
        {name: unfold(a, (site.axis, axis)) @ unfold(b, (site.axis, axis)).T}
        for name, axis in site.families
    )


def _total(terms: Iterable[Scores]) -> Scores:
    total: Scores = {}
    for term in terms:
        for name, matrix in term.items():
            total[name] = total[name] + matrix if name in total else matrix
    return total


def _move(piece: Piece, tensor: Tensor, *, block: Block, step: Step) -> Tensor:
    for axis, atom in enumerate(piece.atoms):
        if atom == block.group:
            tensor = tensor.index_select(axis, step.group)
    for axis, (atom, parent) in enumerate(zip(piece.atoms, piece.parents, strict=True)):
        if parent is not None and atom in step.families:
            shape = [size if i in (parent, axis) else 1 for i, size in enumerate(piece.shape)]
            tensor = tensor.take_along_dim(step.families[atom].reshape(shape), axis)
    return tensor


def _columns(block: Block, step: Step, term: Scores) -> Scores:
    moved = {block.group: term[block.group][:, step.group]} if block.group in term else {}
    for name, index in step.families.items():
        if name in term:
            moved[name] = term[name][:, (step.group[:, None] * index.shape[1] + index).flatten()]
    return moved
