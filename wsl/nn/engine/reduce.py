"""Reductions of a block, arranged as a tree in which each follows from a larger one.

    reduce:  identify axes (a diagonal), then average over some of what is left      pool
    spread:  its transpose, broadcast where it averaged, embed on the diagonal        spread

A label that survives twice has ordered axes. The signature of a reduction is the canonical order of
its surviving labels; all orders of its axes that give it are features of their own (W and its
transpose). `reductions`, `orderings` and the trees are values computed once from the axes; `pool`
and `spread` run a tree on tensors (*axes, batch, channels).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.nn.engine.basis import Part, Space, parent_part, partitions

Signature = tuple[tuple[str, int], ...]
"""Label of each surviving axis, and the position of its parent or -1."""
Order = tuple[int, ...]
"""``order[k]`` is the axis of a reduction that takes position k of its signature."""


class Reduction(NamedTuple):
    """Axes identified within ``parts``, then averaged over the parts that are not ``kept``."""

    parts: tuple[Part, ...]
    kept: tuple[int, ...]


class TreeStep(NamedTuple):
    """How a node follows from node ``source``: the mean over ``dims``, or the diagonal of two."""

    source: int
    dims: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ReductionTree:
    """Reductions of one block in order of computation; node 0 is the block itself.

    Spreading runs it backwards.
    """

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[TreeStep, ...]


@lru_cache(maxsize=1024)
def reductions(space: Space) -> tuple[Reduction, ...]:
    """Every reduction of a block: partitions times the sets of parts that survive.

    A family survives only with its parent: its index means nothing without the parent's.
    """
    found = []
    for parts in partitions(space):
        parents = [parent_part(space, parts, part) for part in parts]
        subsets = itertools.chain.from_iterable(
            itertools.combinations(range(len(parts)), k) for k in range(len(parts) + 1)
        )
        found += [
            Reduction(parts, kept)
            for kept in subsets
            if all(parents[i] in (None, *kept) for i in kept)
        ]
    return tuple(found)


def orderings(space: Space, reduction: Reduction) -> tuple[Signature, tuple[Order, ...]]:
    """The signature of a reduction and all orders of its axes that give it."""
    parts, kept = reduction
    labels = tuple(space[parts[i][0]].group for i in kept)
    parents = (parent_part(space, parts, parts[i]) for i in kept)
    return _canonical(labels, tuple(-1 if p is None else kept.index(p) for p in parents))


@lru_cache(maxsize=4096)
def _canonical(
    labels: tuple[str, ...], parents: tuple[int, ...]
) -> tuple[Signature, tuple[Order, ...]]:
    by_signature = defaultdict(list)
    for order in itertools.permutations(range(len(labels))):
        places = [order.index(parents[i]) if parents[i] >= 0 else -1 for i in order]
        by_signature[tuple(zip((labels[i] for i in order), places, strict=True))].append(order)
    best = max(by_signature)  # later names first: a weight (out, in) then needs no transposition
    return best, tuple(by_signature[best])


class TreeGrower:
    """Builds the tree of one block; ``index`` has the node of each reduction reached so far."""

    def __init__(self, space: Space):
        self.space, self.steps, self.shapes = space, [], []
        self.index: dict[Reduction, int] = {}
        whole = Reduction(tuple((i,) for i in range(len(space))), tuple(range(len(space))))
        self._add(whole, TreeStep(0, ()))

    def reach(self, reduction: Reduction) -> int:
        """The node of a reduction, grown from the smallest larger one if it is not there yet."""
        if reduction not in self.index:
            source, dims = _source(self.space, reduction)
            self._add(reduction, TreeStep(self.reach(source), dims))
        return self.index[reduction]

    def _add(self, reduction: Reduction, step: TreeStep) -> None:
        self.index[reduction] = len(self.steps)
        self.steps.append(step)
        firsts = (reduction.parts[i][0] for i in reduction.kept)
        self.shapes.append(tuple(self.space[axis].size for axis in firsts))

    def freeze(self) -> ReductionTree:
        """What has been grown."""
        return ReductionTree(tuple(self.shapes), tuple(self.steps))


def grow(spaces: Sequence[Space], uses: Iterable[tuple[int, Reduction, Order]]) -> list[TreeGrower]:
    """A tree for each block with all reductions that are used."""
    growers = [TreeGrower(space) for space in spaces]
    for block, reduction, _ in uses:
        growers[block].reach(reduction)
    return growers


def subsets_tree(space: Space) -> tuple[ReductionTree, dict[tuple[int, ...], int]]:
    """Means of a block with distinct groups over every set of axes but the first.

    Also the node of each set of axes kept.
    """
    grower, parts = TreeGrower(space), tuple((i,) for i in range(len(space)))
    found = {
        reduction.kept: grower.reach(reduction)
        for reduction in reductions(space)
        if reduction.parts == parts and 0 in reduction.kept
    }
    return grower.freeze(), found


def _source(space: Space, reduction: Reduction) -> tuple[Reduction, tuple[int, ...]]:
    """The larger reduction that this one follows from, and the axes to average or identify."""
    parts, kept = reduction
    dropped = [i for i in range(len(parts)) if i not in kept]
    if not dropped:
        return _before_diagonal(space, parts)
    # A family cannot come back before its parent; of the others, the smallest axis costs least.
    free = [i for i in dropped if parent_part(space, parts, parts[i]) not in dropped]
    back = min(free, key=lambda i: space[parts[i][0]].size)
    larger = tuple(sorted((*kept, back)))
    return Reduction(parts, larger), (larger.index(back),)


def _before_diagonal(space: Space, parts: Sequence[Part]) -> tuple[Reduction, tuple[int, ...]]:
    """One part split in two; not one on which a part of its family depends as a whole."""
    for i, finer in _splits(parts):
        if all(len({parent_part(space, finer, (axis,)) for axis in part}) <= 1 for part in finer):
            last = finer.index((parts[i][-1],))
            return Reduction(finer, tuple(range(len(finer)))), (i, last)
    raise AssertionError("a part of a family can always be split")  # families are one level deep


def _splits(parts: Sequence[Part]) -> Iterator[tuple[int, tuple[Part, ...]]]:
    for i, part in enumerate(parts):
        if len(part) > 1:
            yield i, tuple(sorted((*parts[:i], part[:-1], *parts[i + 1 :], part[-1:])))


def pool(tree: ReductionTree, x: Tensor) -> list[Tensor]:
    """All reductions of a block (*axes, batch, channels), each from the smallest that holds it."""
    values = [x]
    for step in tree.steps[1:]:
        source = values[step.source]
        if len(step.dims) == 1:
            # not mean: the gradient of a sum is a view, that of a mean is as large as the source
            values.append(source.sum(step.dims[0]) * (1 / source.shape[step.dims[0]]))
        else:
            values.append(source.diagonal(0, *step.dims).movedim(-1, step.dims[0]))
    return values


def pool_all(trees: Sequence[ReductionTree], blocks: Sequence[Tensor]) -> list[list[Tensor]]:
    """All reductions of all blocks."""
    return [pool(tree, x) for tree, x in zip(trees, blocks, strict=True)]


def spread(tree: ReductionTree, values: list[Tensor | None]) -> Tensor:
    """The transpose of `pool`: the sum of all values that are there, carried back to node 0."""
    fresh = [False] * len(values)  # sums made here, to which more may be added in place
    for node in range(len(values) - 1, 0, -1):
        value, source = values[node], tree.steps[node].source
        if value is None:
            continue
        value, mine = _back(tree, node, value), values[source]
        if mine is None:
            values[source] = value
        else:
            whole = mine if fresh[source] else _full(mine, tree.shapes[source])
            values[source] = whole.add_(value) if fresh[source] else whole + value
            fresh[source] = True
    if values[0] is None:
        raise ValueError("a block has no equivariant map into it; give at least one input block")
    return _full(values[0], tree.shapes[0])


def spread_all(
    trees: Sequence[ReductionTree], values: Sequence[list[Tensor | None]]
) -> list[Tensor]:
    """One block for each tree."""
    return [spread(tree, own) for tree, own in zip(trees, values, strict=True)]


def _back(tree: ReductionTree, node: int, value: Tensor) -> Tensor:
    """One step of `pool` transposed; an axis that was averaged has size one, and broadcasts."""
    dims = tree.steps[node].dims
    if len(dims) == 1:
        return value.unsqueeze(dims[0])
    full = _full(value, tree.shapes[node])
    return torch.diag_embed(full.movedim(dims[0], -1), dim1=dims[0], dim2=dims[1])


def _full(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return value.expand(*shape, *value.shape[-2:])
