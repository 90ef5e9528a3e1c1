"""Private axes: those of a group that stands nowhere else.

Such are the rows and columns of a kernel with encoded positions. On a private axis every
equivariant map is a combination of the identity and the mean. Let T be the product of the
Householder reflections that take the first coordinate of each axis to its mean:

    T^2 = 1,     T x = (mean, what remains)
    T (sum_S A_S prod_{p not in S} 1 1^T / n_p) T   is block diagonal,   S the axes that are kept

so T brings the maps A_S of all sets S to one weight matrix for each coordinate: a batch of matrix
products replaces one pass of pooling, multiplying and spreading for each S. Same map, same weights,
to rounding. Only blocks with two private axes or more, small ones, and otherwise simple axes are
folded: elsewhere there is nothing to win.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from wsl.nn.engine.basis import GroupAxis, Space
from wsl.nn.engine.plan import Lane, LayerPlan, compile_plan
from wsl.nn.engine.reduce import ReductionTree, subsets_tree

LARGEST = 64
"""Most positions on the private axes of a block.

Beyond, the change of basis costs more than it saves.
"""

Matrix = tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Fold:
    """How a block is folded: ``private`` axes lead as ``slots`` coordinates.

    The ``rest`` are pooled and spread along ``tree``. ``lanes[r][s]`` is the lane of the r-th node
    of ``nodes`` and of the s-th non-empty set of private axes; ``mix[slot][s]`` is 1 where it acts
    on a coordinate. ``basis`` is T, symmetric and its own inverse.
    """

    block: int
    private: tuple[int, ...]
    rest: tuple[int, ...]
    sizes: tuple[int, ...]
    tree: ReductionTree
    nodes: tuple[int, ...]
    lanes: tuple[tuple[int, ...], ...]
    basis: Matrix
    mix: Matrix

    @property
    def slots(self) -> int:
        """Positions on the private axes."""
        return len(self.basis)

    def enter(self, x: Tensor) -> Tensor:
        """A block (*axes, batch, channels) as (slots, *rest, batch, channels)."""
        last = len(self.private) + len(self.rest)
        x = x.permute(*self.private, *self.rest, last, last + 1)
        return x.reshape(self.slots, *x.shape[len(self.private) :])

    def reflect(self, x: Tensor) -> Tensor:
        """T x, for (slots, ...)."""
        return torch.mm(x.new_tensor(self.basis), x.flatten(1)).view_as(x)

    def leave(self, own: Tensor, y: Tensor) -> Tensor:
        """T of ``own`` as (*axes, batch, channels), plus ``y`` (*rest, batch, channels)."""
        last = len(self.private) + len(self.rest)
        whole = torch.addmm(y.reshape(1, -1), own.new_tensor(self.basis), own.flatten(1))
        order = (*self.private, *self.rest)
        back = (order.index(axis) for axis in range(last))
        return whole.view(*self.sizes, *y.shape).permute(*back, last, last + 1)


@lru_cache(maxsize=256)
def fold_plan(
    sources: tuple[Space, ...], targets: tuple[Space, ...]
) -> tuple[LayerPlan, tuple[int, ...], tuple[Fold, ...]]:
    """What is left of the plan once blocks are folded, and the folds.

    Between the two stands, for each lane of what is left, the lane of the whole plan that it is.
    """
    whole = compile_plan(sources, targets)
    private = _foldable(sources, targets)
    core = compile_plan(_without(sources, private), _without(targets, private))
    position = {lane.signature: i for i, lane in enumerate(whole.lanes)}
    folds = tuple(_fold(b, sources[b], axes, lanes=whole.lanes) for b, axes in private.items())
    return core, tuple(position[lane.signature] for lane in core.lanes), folds


def _foldable(sources: Sequence[Space], targets: Sequence[Space]) -> dict[int, tuple[int, ...]]:
    """The private axes of every block that is folded."""
    both = range(min(len(sources), len(targets)))
    return {block: axes for block in both if (axes := _private(sources, targets, block))}


def _private(sources: Sequence[Space], targets: Sequence[Space], block: int) -> tuple[int, ...]:
    """The axes of a block that are worth folding; none unless the block is simple and small."""
    space = sources[block]
    if space != targets[block] or not _simple(space):
        return ()
    alone = _alone(sources) & _alone(targets)
    found = tuple(i for i, axis in enumerate(space) if axis.group in alone)
    positions = math.prod(space[i].size for i in found)
    return found if len(found) > 1 and positions <= LARGEST else ()


def _alone(spaces: Sequence[Space]) -> set[str]:
    """Groups that stand on one axis of one block."""
    counts = Counter(axis.group for space in spaces for axis in space)
    return {group for group, count in counts.items() if count == 1}


def _simple(space: Space) -> bool:
    """No group stands twice, and there are no families."""
    groups = {axis.group for axis in space}
    return len(groups) == len(space) and all(axis.parent is None for axis in space)


def _without(spaces: Sequence[Space], private: Mapping[int, tuple[int, ...]]) -> tuple[Space, ...]:
    return tuple(
        tuple(a for i, a in enumerate(space) if i not in private.get(b, ()))
        for b, space in enumerate(spaces)
    )


def _fold(block: int, space: Space, private: tuple[int, ...], *, lanes: Sequence[Lane]) -> Fold:
    sizes = tuple(space[i].size for i in private)
    rest = tuple(i for i in range(len(space)) if i not in private)
    # In the tree of the folded block axis 0 is all private axes at once, axis k is rest[k - 1].
    tree, by_set = subsets_tree((GroupAxis("", math.prod(sizes)), *(space[i] for i in rest)))
    kept_rest = [[rest[k - 1] for k in keep if k] for keep in by_set]
    sets = [kept for k in range(1, len(private) + 1) for kept in itertools.combinations(private, k)]
    labels = [[{space[i].group for i in (*own, *kept)} for kept in sets] for own in kept_rest]
    mix = _mix(sizes, [[private.index(i) for i in kept] for kept in sets])
    nodes, found = tuple(by_set.values()), _numbers(labels, lanes)
    return Fold(block, private, rest, sizes, tree, nodes, found, _basis(sizes), mix)


def _numbers(
    labels: Sequence[Sequence[set[str]]], lanes: Sequence[Lane]
) -> tuple[tuple[int, ...], ...]:
    """The lane of each set of labels; a simple block has every label once."""
    position = {frozenset(label for label, _ in lane.signature): i for i, lane in enumerate(lanes)}
    return tuple(tuple(position[frozenset(own)] for own in row) for row in labels)


def _basis(sizes: Sequence[int]) -> Matrix:
    """T: the Kronecker product of the reflections of all axes."""
    coordinates = list(itertools.product(*map(range, sizes)))
    return tuple(
        tuple(
            math.prod(_reflection(n, i, j) for n, i, j in zip(sizes, a, b, strict=True))
            for b in coordinates
        )
        for a in coordinates
    )


def _mix(sizes: Sequence[int], chosen: Sequence[Iterable[int]]) -> Matrix:
    """Coordinate by set: a map that averages over an axis acts on its coordinate 0, the mean."""
    return tuple(
        tuple(float(all(c == 0 for p, c in enumerate(at) if p not in kept)) for kept in chosen)
        for at in itertools.product(*map(range, sizes))
    )


def _reflection(size: int, i: int, j: int) -> float:
    """Entry of the Householder reflection that exchanges the first coordinate and the mean.

    The mean is scaled to length one.
    """
    return size**-0.5 if i == 0 or j == 0 else (i == j) - 1 / (size - size**0.5)
