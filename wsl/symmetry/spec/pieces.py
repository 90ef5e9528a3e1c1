"""The one cut of a specification's tensors: pieces in which every atom has an axis of its own.

An axis is a concatenation of products. It is cut at its seams into windows, one for each product,
and a tensor into pieces, one for each choice of a window on every axis. A piece is unfolded into an
axis per atom, so that on a piece a group acts on whole axes and on nothing else:

    qkv.weight: (head dk)+(head dv) d      ->      (head, dk, d)  and  (head, dv, d)

Matching solves for groups on pieces, equivariant layers pool over them, and elements gather and
scale along windows. All of it depends on the specification alone and is computed once.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from wsl.symmetry.spec.grammar import Atom, Axis
from wsl.symmetry.spec.specification import PermutationSpec


class Window(NamedTuple):
    """One product of an axis, from ``start`` on, with the size of each of its atoms.

    ``parents`` gives for the atom of a family the position, in the same product, of the group that
    chooses the member; None for all others.
    """

    start: int
    atoms: tuple[Atom, ...]
    sizes: tuple[int, ...]
    parents: tuple[int | None, ...]

    @property
    def length(self) -> int:
        """How many positions of the axis it covers."""
        return math.prod(self.sizes)

    @property
    def moves(self) -> bool:
        """Whether a group acts on it."""
        return any(isinstance(atom, str) for atom in self.atoms)


class Piece(NamedTuple):
    """A window of one tensor on every axis, seen with one axis per atom.

    ``window`` holds (start, length) on each axis of the tensor, ``shape`` the sizes of ``atoms``,
    and ``parents`` for the axis of a family the axis of the group that it is per.
    """

    tensor: str
    window: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    atoms: tuple[Atom, ...]
    parents: tuple[int | None, ...]

    @classmethod
    def of(cls, tensor: str, windows: Sequence[Window]) -> Piece:
        """The piece of a tensor between these seams, one window for each of its axes."""
        parents: list[int | None] = []
        for window in windows:
            first = len(parents)
            parents += [None if parent is None else first + parent for parent in window.parents]
        return cls(
            tensor,
            tuple((window.start, window.length) for window in windows),
            tuple(itertools.chain(*(window.sizes for window in windows))),
            tuple(itertools.chain(*(window.atoms for window in windows))),
            tuple(parents),
        )

    def cut(self, params: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The piece of ``params``, in dtype and place of ``like``; leading axes are batch."""
        tensor = params[self.tensor]
        lead = tensor.dim() - len(self.window)
        for axis, (start, length) in enumerate(self.window, lead):
            tensor = tensor.narrow(axis, start, length)
        return tensor.reshape((*tensor.shape[:lead], *self.shape)).to(like)


class Factor(NamedTuple):
    """Where one factor of a product lies on its axis: its index varies in the middle.

    The axis, narrowed to ``length`` positions from ``start`` on, is (outer, size, inner).
    """

    start: int
    outer: int
    size: int
    inner: int

    @property
    def length(self) -> int:
        """How many positions of the axis the product covers."""
        return self.outer * self.size * self.inner


@functools.lru_cache(maxsize=4096)
def windows(spec: PermutationSpec, axis: Axis) -> tuple[Window, ...]:
    """The windows of an axis of ``spec``, in order."""
    per = {group.name: group.per for group in spec.declared}
    found, start = [], 0
    for segment in axis:
        owners = [per[atom] if isinstance(atom, str) else None for atom in segment]
        parents = tuple(None if owner is None else segment.index(owner) for owner in owners)
        sizes = tuple(spec.segment_size((atom,)) for atom in segment)
        found.append(Window(start, segment, sizes, parents))
        start += math.prod(sizes)
    return tuple(found)


def window_of(spec: PermutationSpec, place: tuple) -> Window:
    """The window at a place: an `Occurrence`, a `Place`, or (tensor, axis, segment, ...)."""
    tensor, axis, segment = place[:3]
    return windows(spec, spec.axes[tensor][axis])[segment]


def factor_of(spec: PermutationSpec, place: tuple) -> Factor:
    """Where the factor at a place lies: an `Occurrence`, a `Place`, or their first four fields."""
    window, k = window_of(spec, place), place[3]
    outer, inner = math.prod(window.sizes[:k]), math.prod(window.sizes[k + 1 :])
    return Factor(window.start, outer, window.sizes[k], inner)


@functools.lru_cache(maxsize=256)
def pieces(spec: PermutationSpec, names: tuple[str, ...] | None = None) -> tuple[Piece, ...]:
    """The pieces of the tensors ``names``, by default all; tensor by tensor.

    Those of one tensor are row-major over the windows of its axes, the last axis fastest, so that
    concatenating along the axes from the last to the first joins them again.
    """
    return tuple(
        Piece.of(name, choice)
        for name in (spec.axes if names is None else names)
        for choice in itertools.product(*(windows(spec, axis) for axis in spec.axes[name]))
    )
