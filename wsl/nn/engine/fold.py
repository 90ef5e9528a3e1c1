"""Private axes: those of a group that stands nowhere else, such as the rows and columns of a kernel
with encoded positions.

    x = T (mean, what remains),     sum over S of  A_S (x) prod over p not in S of (1 1^T / n_p)
        is diagonal in T

On a private axis every equivariant map is a combination of the identity and the mean. T, a product
of Householder reflections that take the first coordinate to the mean, brings those of all subsets S
of the private axes to one weight matrix for each
coordinate: a batch of matrix products replaces one pass of pooling, multiplying and spreading for
each S. Same map, same weights, to rounding. Only blocks with two private axes or more, small ones,
and otherwise simple axes are folded: elsewhere there is nothing to win. Plans only, nothing here
computes with tensors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from wsl.nn.engine.basis import GroupAxis, Space
from wsl.nn.engine.plan import Lane, Plan, Tree, compile_plan, subsets_tree

LARGEST = 64
"""Most positions on the private axes of a block; beyond, the change of basis costs more than it
saves.
"""

Matrix = tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Fold:
    """How a block is folded: ``private`` axes lead as ``slots`` coordinates, the ``rest`` are
    pooled and spread along ``tree``.

    ``lanes[r][s]`` is the lane of the r-th node of ``nodes`` and of the s-th non-empty set of
    private axes; ``mix[slot][s]`` is 1 where it acts on a coordinate. ``basis`` is symmetric and
    its own inverse.
    """

    block: int
    private: tuple[int, ...]
    rest: tuple[int, ...]
    sizes: tuple[int, ...]
    tree: Tree
    nodes: tuple[int, ...]
    lanes: tuple[tuple[int, ...], ...]
    basis: Matrix
    mix: Matrix

    @property
    def slots(self) -> int:
        """Positions on the private axes."""
        return len(self.basis)


@lru_cache(maxsize=256)
def fold_plan(
    sources: tuple[Space, ...], targets: tuple[Space, ...]
) -> tuple[Plan, tuple[int, ...], tuple[Fold, ...]]:
    """What is left of the plan once blocks are folded, the lane of the whole plan that each lane of
    it is, and the folds.
    """
    whole = compile_plan(sources, targets)
    private = {
        b: axes
        for b in range(min(len(sources), len(targets)))
        if (axes := _private(sources, targets, b))
    }
    core = compile_plan(_without(sources, private), _without(targets, private))
    place = {lane.signature: i for i, lane in enumerate(whole.lanes)}
    folds = tuple(_fold(b, sources[b], axes, lanes=whole.lanes) for b, axes in private.items())
    return core, tuple(place[lane.signature] for lane in core.lanes), folds


def _private(sources: Sequence[Space], targets: Sequence[Space], block: int) -> tuple[int, ...]:
    space = sources[block]
    groups = [axis.group for axis in space]
    if (
        space != targets[block]
        or len(set(groups)) < len(groups)
        or any(axis.parent is not None for axis in space)
    ):
        return ()
    counts = [
        Counter(axis.group for other in side for axis in other) for side in (sources, targets)
    ]
    found = tuple(i for i, group in enumerate(groups) if all(count[group] == 1 for count in counts))
    return found if len(found) > 1 and math.prod(space[i].size for i in found) <= LARGEST else ()


def _without(spaces: Sequence[Space], private: dict[int, tuple[int, ...]]) -> tuple[Space, ...]:
    return tuple(
        tuple(a for i, a in enumerate(space) if i not in private.get(b, ()))
        for b, space in enumerate(spaces)
    )


def _fold(block: int, space: Space, private: tuple[int, ...], *, lanes: Sequence[Lane]) -> Fold:
    sizes = [space[i].size for i in private]
    rest = tuple(i for i in range(len(space)) if i not in private)
    chosen = [
        kept for k in range(1, len(private) + 1) for kept in itertools.combinations(private, k)
    ]
    place = {frozenset(label for label, _ in lane.signature): i for i, lane in enumerate(lanes)}
    tree, nodes = subsets_tree((GroupAxis("", math.prod(sizes)), *(space[i] for i in rest)))
    found = tuple(
        tuple(
            place[frozenset(space[i].group for i in (*(rest[k - 1] for k in keep if k), *kept))]
            for kept in chosen
        )
        for keep in nodes
    )
    coordinates = list(itertools.product(*map(range, sizes)))
    mix = tuple(
        tuple(
            float(all(c == 0 for i, c in zip(private, at, strict=True) if i not in kept))
            for kept in chosen
        )
        for at in coordinates
    )
    basis = tuple(
        tuple(
            math.prod(_reflection(n, i, j) for n, i, j in zip(sizes, a, b, strict=True))
            for b in coordinates
        )
        for a in coordinates
    )
    return Fold(block, private, rest, tuple(sizes), tree, tuple(nodes.values()), found, basis, mix)


def _reflection(size: int, i: int, j: int) -> float:
    """Entry of the Householder reflection that exchanges the first coordinate and the mean, scaled
    to length one.
    """
    return size**-0.5 if i == 0 or j == 0 else (i == j) - 1 / (size - size**0.5)
