"""A plan: all equivariant maps between two lists of blocks by pooling once, one GEMM per signature,
spreading once.

A partition of joined axes factors as  reduce (diagonals, then means over input-only parts)  ->
    surviving axes  ->
broadcast and embed on diagonals (output-only parts). Reductions with the same surviving labels, the
signature, are concatenated on channels and meet all outputs of that signature in one matrix
product:

    out_b = sum_sig spread_b( concat_a( pool_a(x_a) ) @ W_sig )

Zhou et al. (2024), arXiv 2402.05232, give the basis; the factorisation makes cost linear in the
number of weights. A label that survives twice has ordered axes: every label-preserving reordering
of an input is a feature of its own (W and its transpose), an output has one. Pairs with more parts
than the group has elements are dropped, so no weight is redundant. Plans are values computed once
from the axes; nothing here computes with tensors.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from wsl.nn.engine.basis import Part, Space, parent_part, partitions

Signature = tuple[tuple[str, int], ...]
"""Label of each surviving axis, and the position of its parent or -1."""


class Term(NamedTuple):
    """A reduction of a block: axes identified within ``parts``, then averaged over the parts that
    are not ``kept``.
    """

    parts: tuple[Part, ...]
    kept: tuple[int, ...]


class Step(NamedTuple):
    """How a term follows from node ``source`` of its tree: the mean over ``dims[0]``, or the
    diagonal of ``dims``.
    """

    source: int
    dims: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tree:
    """The terms of one block in order of computation; node 0 is the block itself. Spreading runs it
    backwards.
    """

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]


class Port(NamedTuple):
    """A term of a block in a lane: ``order[k]`` is the axis of the term that takes place k of the
    signature.
    """

    block: int
    node: int
    order: tuple[int, ...]


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


@dataclasses.dataclass(frozen=True)
class Plan:
    """Pool every input along its tree, run the lanes, spread every output along its tree."""

    inputs: tuple[Tree, ...]
    outputs: tuple[Tree, ...]
    lanes: tuple[Lane, ...]

    def count(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> tuple[int, int]:
        """Numbers of weights and of biases for the given channels of every block."""
        weights, biases = 0, 0
        for lane in self.lanes:
            rows, columns = (
                [out_channels[p.block] for p in lane.outputs],
                [in_channels[p.block] for p in lane.inputs],
            )
            pairs = itertools.product(range(len(rows)), range(len(columns)))
            weights += sum(
                rows[o] * columns[i] for o, i in pairs if lane.fits is None or lane.fits[o][i]
            )
            biases += 0 if lane.signature else sum(rows)
        return weights, biases


@lru_cache(maxsize=256)
def compile_plan(sources: tuple[Space, ...], targets: tuple[Space, ...]) -> Plan:
    """The plan of all equivariant maps from blocks ``sources`` to blocks ``targets``."""
    features = _by_signature(
        (s, b, t, o)
        for b, space in enumerate(sources)
        for t in terms(space)
        for s, orders in [orderings(space, t)]
        for o in orders
    )
    slots = _by_signature(
        (s, b, t, orders[0])
        for b, space in enumerate(targets)
        for t in terms(space)
        for s, orders in [orderings(space, t)]
    )
    shared = sorted(features.keys() & slots.keys(), key=lambda s: (len(s), s))
    pools = _trees(sources, [use for s in shared for use in features[s]])
    spreads = _trees(targets, [use for s in shared for use in slots[s]])

    def lane(signature: Signature) -> Lane:
        enter, leave = features[signature], slots[signature]
        fits = _fits(
            [(sources[b], t, o) for b, t, o in enter], [(targets[b], t, o) for b, t, o in leave]
        )
        return Lane(
            signature,
            tuple(Port(b, pools[b].index[t], o) for b, t, o in enter),
            tuple(Port(b, spreads[b].index[t], o) for b, t, o in leave),
            fits,
        )

    lanes = tuple(lane(s) for s in shared)
    return Plan(tuple(t.freeze() for t in pools), tuple(t.freeze() for t in spreads), lanes)


def subsets_tree(space: Space) -> tuple[Tree, dict[tuple[int, ...], int]]:
    """Means of a block with distinct groups over every set of axes but the first, and the node of
    each set of axes kept.
    """
    grower, parts = _Grower(space), tuple((i,) for i in range(len(space)))
    found = {
        term.kept: grower.reach(term)
        for term in terms(space)
        if term.parts == parts and 0 in term.kept
    }
    return grower.freeze(), found


def check_size(
    who: str,
    spaces: tuple[Space, ...],
    steps: Iterable[tuple[Sequence[int], Sequence[int]]],
    *,
    limit: int,
) -> None:
    """Raise ValueError if maps from blocks to blocks, with channels (in, out) for each step, have
    over ``limit`` weights.
    """
    plan = compile_plan(spaces, spaces)
    count = sum(sum(plan.count(enter, leave)) for enter, leave in steps)
    if count > limit:
        raise ValueError(
            f"{who}: exact fixed axes need {count:,} weights for this specification, more than "
            f"max_parameters={limit:,}; use UNF, which folds fixed axes into its channels, or "
            "fewer hidden "
            "channels"
        )


@lru_cache(maxsize=1024)
def terms(space: Space) -> tuple[Term, ...]:
    """Every reduction of a block: partitions times the sets of parts that survive (a family
    survives only with its parent).
    """
    found = []
    for parts in partitions(space):
        parents = [parent_part(space, parts, part) for part in parts]
        subsets = itertools.chain.from_iterable(
            itertools.combinations(range(len(parts)), k) for k in range(len(parts) + 1)
        )
        found += [
            Term(parts, kept) for kept in subsets if all(parents[i] in (None, *kept) for i in kept)
        ]
    return tuple(found)


def orderings(space: Space, term: Term) -> tuple[Signature, tuple[tuple[int, ...], ...]]:
    """The canonical signature of a term and all orders of its axes that give it."""
    labels = tuple(space[term.parts[i][0]].group for i in term.kept)
    parents = (parent_part(space, term.parts, term.parts[i]) for i in term.kept)
    return _canonical(labels, tuple(-1 if p is None else term.kept.index(p) for p in parents))


@lru_cache(maxsize=4096)
def _canonical(
    labels: tuple[str, ...], parents: tuple[int, ...]
) -> tuple[Signature, tuple[tuple[int, ...], ...]]:
    by_signature = defaultdict(list)
    for order in itertools.permutations(range(len(labels))):
        by_signature[
            tuple((labels[i], order.index(parents[i]) if parents[i] >= 0 else -1) for i in order)
        ].append(order)
    best = max(by_signature)  # later names first: a weight (out, in) then needs no transposition
    return best, tuple(by_signature[best])


Use = tuple[int, Term, tuple[int, ...]]


def _by_signature(
    uses: Iterable[tuple[Signature, int, Term, tuple[int, ...]]],
) -> dict[Signature, list[Use]]:
    grouped: dict[Signature, list[Use]] = defaultdict(list)
    for signature, *use in uses:
        grouped[signature].append(tuple(use))  # type: ignore[arg-type]
    return grouped


class _Grower:
    """Builds the tree of one block: each term is reached from the smallest larger term."""

    def __init__(self, space: Space):
        self.space, self.index, self.steps, self.shapes = space, {}, [], []
        self.reach(Term(tuple((i,) for i in range(len(space))), tuple(range(len(space)))))

    def reach(self, term: Term) -> int:
        if term not in self.index:
            if self.steps:
                source, dims = _source(self.space, term)
                step = Step(self.reach(source), dims)
            else:
                step = Step(0, ())
            self.index[term] = len(self.steps)
            self.steps.append(step)
            self.shapes.append(tuple(self.space[term.parts[i][0]].size for i in term.kept))
        return self.index[term]

    def freeze(self) -> Tree:
        return Tree(tuple(self.shapes), tuple(self.steps))


def _trees(spaces: Sequence[Space], uses: Iterable[Use]) -> list[_Grower]:
    growers = [_Grower(space) for space in spaces]
    for block, term, _ in uses:
        growers[block].reach(term)
    return growers


def _source(space: Space, term: Term) -> tuple[Term, tuple[int, ...]]:
    dropped = [i for i in range(len(term.parts)) if i not in term.kept]
    if dropped:
        free = [i for i in dropped if parent_part(space, term.parts, term.parts[i]) not in dropped]
        back = min(free, key=lambda i: space[term.parts[i][0]].size)
        kept = tuple(sorted((*term.kept, back)))
        return Term(term.parts, kept), (kept.index(back),)
    for i, finer in _splits(term.parts):
        if all(len({parent_part(space, finer, (axis,)) for axis in part}) <= 1 for part in finer):
            return Term(finer, tuple(range(len(finer)))), (i, finer.index((term.parts[i][-1],)))
    raise AssertionError(
        "a part of a family can always be split"
    )  # unreachable: families are one level deep


def _splits(parts: Sequence[Part]) -> Iterator[tuple[int, tuple[Part, ...]]]:
    for i, part in enumerate(parts):
        if len(part) > 1:
            yield i, tuple(sorted((*parts[:i], part[:-1], *parts[i + 1 :], part[-1:])))


Placed = tuple[Space, Term, tuple[int, ...]]


def _fits(enter: Sequence[Placed], leave: Sequence[Placed]) -> tuple[tuple[bool, ...], ...] | None:
    """Which pairs are realised by some index tuple; pairs are inspected only if the groups could be
    too small.
    """
    sizes = {axis.group: axis.size for space, _, _ in (*enter, *leave) for axis in space}
    most = [
        {g: max((_parts_of(g, *use[:2]) for use in side), default=0) for g in sizes}
        for side in (enter, leave)
    ]
    through = Counter(
        space[term.parts[term.kept[i]][0]].group for space, term, order in enter[:1] for i in order
    )
    if all(most[0][g] + most[1][g] - through[g] <= size for g, size in sizes.items()):
        return None
    fits = tuple(tuple(_pair_fits(i, o) for i in enter) for o in leave)
    return None if all(map(all, fits)) else fits


def _parts_of(group: str, space: Space, term: Term) -> int:
    return sum(space[part[0]].group == group for part in term.parts)


def _pair_fits(enter: Placed, leave: Placed) -> bool:
    crowds: dict[tuple[str, object, int], set] = defaultdict(set)
    for side, (space, term, order) in enumerate((enter, leave)):
        place = {term.kept[axis]: ("through", k) for k, axis in enumerate(order)}
        names = [place.get(i, (side, i)) for i in range(len(term.parts))]
        for i, part in enumerate(term.parts):
            parent = parent_part(space, term.parts, part)
            crowds[
                space[part[0]].group, None if parent is None else names[parent], space[part[0]].size
            ].add(names[i])
    return all(len(crowd) <= size for (_, _, size), crowd in crowds.items())
