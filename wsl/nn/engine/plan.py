"""A layer plan: all equivariant maps between two lists of blocks, each pooled and spread once.

A partition of joined axes factors at the axes that survive:

    reduce (diagonals, then means over input-only parts)  ->  surviving axes
    surviving axes  ->  broadcast, and embed on diagonals (output-only parts)

Reductions with the same surviving labels, the signature, are concatenated on channels and meet all
outputs of that signature in one matrix product:

    out_b = sum_sig spread_b( concat_a( pool_a(x_a) ) @ W_sig )

Zhou et al. (2024), arXiv 2402.05232, give the basis; the factorisation makes cost linear in the
number of weights. Every order of the axes of an input is a feature of its own (W and its
transpose), an output has one. Pairs with more parts than the group has elements are dropped, so no
weight is redundant. Plans are values computed once from the axes; nothing here computes with
tensors.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from wsl.nn.engine.basis import Space, parent_part
from wsl.nn.engine.reduce import (
    Order,
    Reduction,
    ReductionTree,
    Signature,
    TreeGrower,
    grow,
    orderings,
    reductions,
)


class Port(NamedTuple):
    """A reduction of a block in a lane; ``order[k]`` is its axis at position k of the signature."""

    block: int
    node: int
    order: Order


@dataclasses.dataclass(frozen=True)
class Lane:
    """One signature: the features that enter its matrix product and the outputs that leave it.

    ``fits[o][i]`` is False where the pair would need more parts than a group has elements; None
    when all pairs fit.
    """

    signature: Signature
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    fits: tuple[tuple[bool, ...], ...] | None

    def rows(self, out_channels: Sequence[int]) -> list[int]:
        """Channels of each output, from those of each block."""
        return [out_channels[port.block] for port in self.outputs]

    def columns(self, in_channels: Sequence[int]) -> list[int]:
        """Channels of each input, from those of each block."""
        return [in_channels[port.block] for port in self.inputs]

    def count(self, rows: Sequence[int], columns: Sequence[int]) -> int:
        """Weights of the matrix with so many channels for its outputs and inputs."""
        if self.fits is None:
            return sum(rows) * sum(columns)
        return sum(
            a * sum(b for b, fits in zip(columns, fitting, strict=True) if fits)
            for a, fitting in zip(rows, self.fits, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """Pool every input along its tree, run the lanes, spread every output along its tree."""

    inputs: tuple[ReductionTree, ...]
    outputs: tuple[ReductionTree, ...]
    lanes: tuple[Lane, ...]

    def count(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> tuple[int, int]:
        """Numbers of weights and of biases for the given channels of every block."""
        weights, biases = 0, 0
        for lane in self.lanes:
            rows = lane.rows(out_channels)
            weights += lane.count(rows, lane.columns(in_channels))
            biases += 0 if lane.signature else sum(rows)
        return weights, biases


Use = tuple[int, Reduction, Order]
"""A reduction of a block, with its axes in the order of the signature."""


@lru_cache(maxsize=256)
def compile_plan(sources: tuple[Space, ...], targets: tuple[Space, ...]) -> LayerPlan:
    """The plan of all equivariant maps from blocks ``sources`` to blocks ``targets``."""
    enter, leave = _uses(sources, every_order=True), _uses(targets, every_order=False)
    # Sorted, because the order of lanes is that of the weights in a state dict and of their seed.
    shared = sorted(enter.keys() & leave.keys(), key=lambda s: (len(s), s))
    pools = grow(sources, itertools.chain(*(enter[s] for s in shared)))
    spreads = grow(targets, itertools.chain(*(leave[s] for s in shared)))
    lanes = []
    for signature in shared:
        ports = _ports(pools, enter[signature]), _ports(spreads, leave[signature])
        fits = _fits(_placed(sources, enter[signature]), _placed(targets, leave[signature]))
        lanes.append(Lane(signature, *ports, fits))
    return LayerPlan(_frozen(pools), _frozen(spreads), tuple(lanes))


def _frozen(trees: Iterable[TreeGrower]) -> tuple[ReductionTree, ...]:
    return tuple(tree.freeze() for tree in trees)


def _uses(spaces: Sequence[Space], *, every_order: bool) -> Mapping[Signature, list[Use]]:
    """All reductions of all blocks by signature, in every order of their axes or in one."""
    found: dict[Signature, list[Use]] = defaultdict(list)
    for block, space in enumerate(spaces):
        for reduction in reductions(space):
            signature, orders = orderings(space, reduction)
            # An output in another order would be the same map: the orders of inputs say it all.
            chosen = orders if every_order else orders[:1]
            found[signature] += [(block, reduction, order) for order in chosen]
    return found


def _ports(trees: Sequence[TreeGrower], uses: Iterable[Use]) -> tuple[Port, ...]:
    return tuple(Port(block, trees[block].index[term], order) for block, term, order in uses)


class _Placed(NamedTuple):
    """A use together with the axes that it is a reduction of."""

    space: Space
    reduction: Reduction
    order: Order

    def parts_of(self, group: str) -> int:
        """How many different indices into a group it needs."""
        return sum(self.space[part[0]].group == group for part in self.reduction.parts)

    def through(self) -> Counter[str]:
        """How many of them survive, by group."""
        parts, kept = self.reduction
        return Counter(self.space[parts[kept[i]][0]].group for i in self.order)


def _placed(spaces: Sequence[Space], uses: Iterable[Use]) -> list[_Placed]:
    return [_Placed(spaces[block], reduction, order) for block, reduction, order in uses]


def _fits(
    enter: Sequence[_Placed], leave: Sequence[_Placed]
) -> tuple[tuple[bool, ...], ...] | None:
    """Which pairs some tuple of indices realises; None if all.

    A pair needs the parts of both, less those that go through; pairs are inspected one by one only
    if for some group the largest of them could need more than it has elements.
    """
    sizes = {axis.group: axis.size for use in (*enter, *leave) for axis in use.space}
    if all(_needed(g, enter, leave) <= size for g, size in sizes.items()):
        return None
    fits = tuple(tuple(_pair_fits(i, o) for i in enter) for o in leave)
    return None if all(map(all, fits)) else fits


def _needed(group: str, enter: Sequence[_Placed], leave: Sequence[_Placed]) -> int:
    """The most different indices that a pair can need; what goes through counts once."""
    return _most(group, enter) + _most(group, leave) - enter[0].through()[group]


def _most(group: str, uses: Sequence[_Placed]) -> int:
    return max(use.parts_of(group) for use in uses)


def _pair_fits(enter: _Placed, leave: _Placed) -> bool:
    """Whether each group, and each family of one parent, has an element for all its parts."""
    crowds: dict[tuple[str, object, int], set] = defaultdict(set)
    for side, use in enumerate((enter, leave)):
        parts = use.reduction.parts
        names = _names(use, side)
        for name, part in zip(names, parts, strict=True):
            parent = parent_part(use.space, parts, part)
            group, size, _ = use.space[part[0]]
            # Parts of one label in one family (or in none) must have indices of their own.
            crowds[group, None if parent is None else names[parent], size].add(name)
    return all(len(crowd) <= size for (_, _, size), crowd in crowds.items())


def _names(use: _Placed, side: int) -> list[tuple[object, int]]:
    """A name for each part; those that go through have the same name on both sides."""
    shared = {use.reduction.kept[axis]: ("through", k) for k, axis in enumerate(use.order)}
    return [shared.get(i, (side, i)) for i in range(len(use.reduction.parts))]
