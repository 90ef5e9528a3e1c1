"""N models under soft permutations, one for each block and model: what Frank-Wolfe moves.

    V_i = (M_i1 x ... x M_ir) W_i      for a piece on which blocks act r times, M doubly stochastic
    f = sum_{i<j} <V_i, V_j> = (||S||^2 - sum_i ||V_i||^2) / 2,       S = sum_i V_i
    df/dM_is = unfold(S - V_i, s) unfold(T_i^{all but s}, s)^T

T^A is the piece moved by the soft permutations of the sites A alone, so that V = T^{all}. All T^A
are kept: 2^r tensors, with r at most 2 for weights of layers. A step M <- (1-t) M + t D towards a
permutation D then needs no product at all, only gathers along axes, written D_B for sites B:

    T^A(t) = sum_{B <= A} t^|B| (1-t)^(|A|-|B|) D_B T^{A - B}

This has degree r in t, and f is a polynomial of degree 2r, a quartic for weights of layers, whose
coefficients are inner products of r + 1 tensors. A gradient costs one product for each model, site
and piece: O(N), where a sum over pairs costs O(N^2).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site, cut_rows, unfold
from wsl.symmetry import gather_rows

Vertex = Mapping[str, Tensor]
"""A permutation of each model: indices (N, n) of a group, and (N, n, k) of each of its families."""
Gradient = dict[str, Tensor]
"""Of one block: (N, n, n) of its group, or (N, n k, n k) of each of its families."""
Subset = frozenset[int]
"""Some of the sites of a piece, by their number."""


class Relaxed:
    """All pieces of N stacked models, and the soft permutation of each block.

    ``mass`` has for each block its soft permutations, in the form of a gradient.
    """

    def __init__(self, plan: MatchingPlan, models: Mapping[str, Tensor], like: Tensor) -> None:
        self.plan = plan
        self.pieces = [
            RelaxedPiece(_actions(plan, p), cut_rows(piece, models, like))
            for p, piece in enumerate(plan.pieces)
        ]
        fixed = (cut_rows(piece, models, like) for piece in plan.fixed)
        self.constant = sum(_over_pairs(tensor, tensor) for tensor in fixed)
        ones = like.new_ones(len(next(iter(models.values()))))
        self.mass = {name: _identity(block, ones) for name, block in plan.blocks.items()}

    @property
    def value(self) -> float:
        """The objective: the sum of inner products over pairs, in float64."""
        return self.constant + sum(_over_pairs(p.moved, p.moved) for p in self.pieces)

    def soften(self) -> None:
        """All models but the first under the mean of all permutations, which knows no unit."""
        for piece in self.pieces:
            piece.soften()
        for matrices in self.mass.values():
            for matrix in matrices.values():
                matrix[1:] = 1 / matrix.shape[-1]

    def gradients(self) -> dict[str, Gradient]:
        """Of every block, what the objective gains for each entry of its soft permutations."""
        found: dict[str, Gradient] = {name: {} for name in self.plan.blocks}
        for piece in self.pieces:
            for s, (block, _) in enumerate(piece.sites):
                own = found[block.group]
                for name, term in piece.gradient(s).items():
                    own[name] = own[name] + term if name in own else term
        return found

    def along(self, vertices: Mapping[str, Vertex]) -> Polynomial:
        """The objective after a step of t towards the vertices, as a polynomial of t."""
        total = np.zeros(1 + 2 * max((len(piece.sites) for piece in self.pieces), default=0))
        total[0] = self.constant
        for piece in self.pieces:
            piece.aim(vertices)
            along = piece.along
            total[: len(along)] += along
        return Polynomial(total)

    def step(self, vertices: Mapping[str, Vertex], t: float) -> None:
        """Go a share ``t`` of the way to the vertices that `along` was asked for last."""
        for piece in self.pieces:
            piece.step(vertices, t)
        for name, mass in self.mass.items():
            for key, matrix in mass.items():
                columns = _columns(vertices[name], key, group=name)
                here = matrix * (1 - t)
                new = torch.full_like(here[..., :1], t)
                mass[key] = here.scatter_add(-1, columns[..., None], new)


def _actions(plan: MatchingPlan, p: int) -> list[tuple[GroupBlock, Site]]:
    """Every action of a block on piece p."""
    return [(b, site) for b in plan.blocks.values() for site in b.sites if site.piece == p]


class RelaxedPiece:
    """One piece of all models, under the soft permutations of every subset of its sites."""

    def __init__(self, sites: Sequence[tuple[GroupBlock, Site]], weights: Tensor) -> None:
        self.sites = sites
        self.all: Subset = frozenset(range(len(sites)))
        self.soft: dict[Subset, Tensor] = dict.fromkeys(_subsets(self.all), weights)
        self.towards: list[Tensor] = []

    @property
    def moved(self) -> Tensor:
        """V (N, *shape)."""
        return self.soft[self.all]

    def soften(self) -> None:
        """All models but the first under the mean of all permutations."""
        for some, tensor in self.soft.items():
            sites = [self.sites[s][1] for s in some]
            axes = [i for site in sites for i in (site.axis, *(axis for _, axis in site.families))]
            if axes:
                mean = tensor[1:].mean([axis + 1 for axis in axes], keepdim=True)
                self.soft[some] = torch.cat([tensor[:1], mean.expand_as(tensor[1:])])

    def gradient(self, s: int) -> Gradient:
        """What the objective gains by moving mass at site ``s``."""
        block, site = self.sites[s]
        others = self.moved.sum(0, keepdim=True) - self.moved
        still = self.soft[self.all - {s}]
        axes = {name: (site.axis, axis) for name, axis in site.families}
        axes = axes or {block.group: (site.axis,)}
        return {name: unfold(others, of) @ unfold(still, of).mT for name, of in axes.items()}

    def aim(self, vertices: Mapping[str, Vertex]) -> None:
        """Compute the tensors c of V(t) = sum_k t^k (1-t)^(r-k) c_k."""
        self.towards = [self.moved] + [torch.zeros_like(self.moved) for _ in self.sites]
        for some in self.soft:
            if some:
                self.towards[len(some)] += self._gathered(self.all, some, vertices)

    @property
    def along(self) -> np.ndarray:
        """The objective of this piece as coefficients of t^0, ..., t^2r."""
        powers, value = _powers(len(self.sites)), np.zeros(2 * len(self.sites) + 1)
        for (k, c), (m, d) in itertools.combinations_with_replacement(enumerate(self.towards), 2):
            value += powers[k + m] * _over_pairs(c, d) * (1 if k == m else 2)
        return value

    def step(self, vertices: Mapping[str, Vertex], t: float) -> None:
        """M <- (1-t) M + t D at every site."""
        self.soft = {
            subset: self._stepped(subset, vertices, t) if subset else weights
            for subset, weights in self.soft.items()
        }

    def _stepped(self, subset: Subset, vertices: Mapping[str, Vertex], t: float) -> Tensor:
        if subset == self.all:
            parts = list(enumerate(self.towards))
        else:
            every = _subsets(subset)
            parts = [(len(some), self._gathered(subset, some, vertices)) for some in every]
        new = torch.zeros_like(self.moved)
        for k, part in parts:
            new.add_(part, alpha=t**k * (1 - t) ** (len(subset) - k))
        return new

    def _gathered(self, subset: Subset, some: Subset, vertices: Mapping[str, Vertex]) -> Tensor:
        """D_B T^{A - B}, for A the subset and B ``some`` of it."""
        tensor = self.soft[subset - some]
        for s in sorted(some):
            block, site = self.sites[s]
            tensor = _gather(tensor, site, vertices[block.group], group=block.group)
        return tensor


@functools.cache
def _powers(sites: int) -> list[np.ndarray]:
    """The coefficients of t^k (1-t)^(2r-k) for k = 0, ..., 2r."""
    t, rest = Polynomial([0.0, 1.0]), Polynomial([1.0, -1.0])
    return [(t**k * rest ** (2 * sites - k)).coef for k in range(2 * sites + 1)]


def _subsets(sites: Subset) -> list[Subset]:
    counts = range(len(sites) + 1)
    return [frozenset(some) for k in counts for some in itertools.combinations(sorted(sites), k)]


def _gather(tensor: Tensor, site: Site, vertex: Vertex, *, group: str) -> Tensor:
    """A permutation of each row (N, *shape), at one site."""
    tensor = gather_rows(tensor, site.axis + 1, vertex[group])
    for name, axis in site.families:
        keep = (0, site.axis + 1, axis + 1)
        shape = [n if i in keep else 1 for i, n in enumerate(tensor.shape)]
        tensor = tensor.take_along_dim(vertex[name].reshape(shape), axis + 1)
    return tensor


def _columns(vertex: Vertex, key: str, *, group: str) -> Tensor:
    """The column of the one in each row of a permutation matrix, of a group or of a family."""
    if key == group:
        return vertex[group]
    inner = vertex[key]
    return (vertex[group][..., None] * inner.shape[-1] + inner).flatten(1)


def _identity(block: GroupBlock, ones: Tensor) -> Gradient:
    sizes = {name: block.size * size for name, size in block.families}
    sizes[block.group] = block.size
    return {
        name: torch.diag_embed(ones[:, None].expand(-1, size).contiguous())
        for name, size in sizes.items()
    }


def _over_pairs(a: Tensor, b: Tensor) -> float:
    """sum_{i<j} <a_i, b_j>, made symmetric: (<sum a, sum b> - sum_i <a_i, b_i>) / 2, in float64."""
    together = (a.sum(0) * b.sum(0)).sum(dtype=torch.float64)
    return float(together - (a * b).sum(dtype=torch.float64)) / 2
