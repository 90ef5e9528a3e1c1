"""The basis of equivariant linear maps: set partitions of axes whose parts share one group label.

A tensor is cut at its concatenations into blocks; a block is a view with one axis per permutable
atom, its fixed atoms folded into channels. For blocks a (input) and b (output) the equivariant maps
have one basis element for each partition of the axes of a and b together into parts of equal label,
at most n_p parts for a group of size n_p, so

    dim Hom(a, b) = prod_p B_{n_p}(m_p(a) + m_p(b)) * prod(fixed sizes)
    B_n(k)        = sum_{j <= n} S(k, j),      S the Stirling numbers of the second kind

with m_p(a) the number of axes of a with label p. Maron et al. (2019), arXiv 1812.09902; Zhou et al.
(2024), Universal Neural Functionals, arXiv 2402.05232, section 3. A family (``dk = 16 per head``, a
wreath product) is exact too: axes of the family may share a part only where their parent axes share
one. Groups of size one are fixed axes. A family of a family is refused. Nothing here computes with
tensors.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from wsl.symmetry import PermutationSpec, Piece, SpecError, pieces


class GroupAxis(NamedTuple):
    """A permutable axis of a block; ``parent`` is the axis of the same block that a family is per.

    None for an axis that is of no family.
    """

    group: str
    size: int
    parent: int | None = None


Space = tuple[GroupAxis, ...]
"""The permutable axes of a block: a representation of the group on tensors of that shape."""
Part = tuple[int, ...]
"""Axes (by index, ascending) that carry one common index."""


@dataclasses.dataclass(frozen=True)
class TensorBlock:
    """A piece of a tensor whose fixed axes count as channels.

    ``space`` are its permutable axes, ``fixed`` is the product of its other sizes, and ``order``
    are the axes of the piece with the permutable ones first. ``into`` permutes (batch, *axes,
    channels) to (*permutable axes, batch, *fixed axes, channels), ``back`` is its inverse.
    """

    piece: Piece
    order: tuple[int, ...]
    space: Space
    fixed: int
    into: tuple[int, ...]
    back: tuple[int, ...]


@lru_cache(maxsize=256)
def blocks(spec: PermutationSpec) -> tuple[TensorBlock, ...]:
    """All blocks of a specification in the order of its pieces.

    Raises `SpecError` for nested families.
    """
    per = {group.name: group.per for group in spec.declared}
    return tuple(_block(piece, per) for piece in pieces(spec))


def _block(piece: Piece, per: dict[str, str | None]) -> TensorBlock:
    _refuse_nested(piece, per)
    # A group of one element permutes nothing, so its axis is as good as a fixed one.
    permutes = [isinstance(atom, str) for atom in piece.atoms]
    moving = [axis for axis, size in enumerate(piece.shape) if permutes[axis] and size > 1]
    still = [axis for axis in range(len(piece.shape)) if axis not in moving]
    fixed = math.prod(piece.shape[axis] for axis in still)
    into = (*(a + 1 for a in moving), 0, *(a + 1 for a in still), len(piece.shape) + 1)
    back = tuple(into.index(dim) for dim in range(len(into)))
    return TensorBlock(piece, (*moving, *still), _space(piece, moving), fixed, into, back)


def _refuse_nested(piece: Piece, per: dict[str, str | None]) -> None:
    for atom, parent in zip(piece.atoms, piece.parents, strict=True):
        owner = None if parent is None else str(piece.atoms[parent])
        if owner is not None and per[owner] is not None:
            raise SpecError(
                f"{piece.tensor}: '{atom}' is a family per '{owner}', itself a family; only one "
                "level is supported"
            )


def _space(piece: Piece, moving: Sequence[int]) -> Space:
    """The axes ``moving``; a parent that does not move is no parent any more."""
    position = {axis: k for k, axis in enumerate(moving)}
    parents = [piece.parents[axis] for axis in moving]
    return tuple(
        GroupAxis(
            str(piece.atoms[axis]),
            piece.shape[axis],
            None if parent is None else position.get(parent),
        )
        for axis, parent in zip(moving, parents, strict=True)
    )


def partitions(space: Space) -> Iterator[tuple[Part, ...]]:
    """Partitions of the axes into parts that some tuple of indices realises.

    The axes of a part have one label, and their parents lie in one part.
    """
    yield from _extend(space, 0, ())


def _extend(space: Space, axis: int, parts: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    """All ways to go on from ``parts`` of the axes before ``axis``: into a part like it, or alone.

    A group of n elements has at most n different indices, hence the bound on new parts.
    """
    if axis == len(space):
        yield parts
        return
    alike = _alike(space, parts, axis)
    for i in alike:
        yield from _extend(space, axis + 1, (*parts[:i], (*parts[i], axis), *parts[i + 1 :]))
    if len(alike) < space[axis].size:
        yield from _extend(space, axis + 1, (*parts, (axis,)))


def _alike(space: Space, parts: tuple[Part, ...], axis: int) -> list[int]:
    """Parts of the label of ``axis`` and of the part of its parent."""
    own = _kind(space, parts, (axis,))
    return [i for i, part in enumerate(parts) if _kind(space, parts, part) == own]


def parent_part(space: Space, parts: Sequence[Part], part: Part) -> int | None:
    """Index in ``parts`` of the part of the parents of ``part``; None if it is of no family."""
    parent = space[part[0]].parent
    return None if parent is None else next(i for i, other in enumerate(parts) if parent in other)


def _kind(space: Space, parts: Sequence[Part], part: Part) -> tuple[str, int | None]:
    return space[part[0]].group, parent_part(space, parts, part)


@lru_cache(maxsize=4096)
def dimension(source: Space, target: Space = ()) -> int:
    """dim Hom(source, target) of two blocks without fixed axes.

    With one argument, the number of invariant vectors.
    """
    joined = join(source, target)
    if any(axis.parent is not None for axis in joined):
        return sum(1 for _ in partitions(joined))
    sizes = {axis.group: axis.size for axis in joined}
    counts = Counter(axis.group for axis in joined)
    return math.prod(bell(k, sizes[group]) for group, k in counts.items())


def join(source: Space, target: Space) -> Space:
    """The axes of both blocks, those of ``source`` first."""
    return source + tuple(
        a if a.parent is None else a._replace(parent=a.parent + len(source)) for a in target
    )


def layer_dimension(spec: PermutationSpec, bias: bool = True) -> tuple[int, int]:
    """Numbers of equivariant linear maps and of invariant vectors, from the closed form.

    They are per pair of channels, and per channel.
    """
    kinds = Counter()
    for block in blocks(spec):
        kinds[block.space] += block.fixed
    linear = sum(m * n * dimension(a, b) for a, m in kinds.items() for b, n in kinds.items())
    return linear, sum(n * dimension(b) for b, n in kinds.items()) if bias else 0


def bell(count: int, size: int) -> int:
    """B_size(count): partitions of ``count`` things into at most ``size`` parts.

    The Bell number if ``size >= count``.
    """
    row = [1]  # Stirling numbers S(k, 0..k), by S(k + 1, j) = S(k, j - 1) + j S(k, j)
    for _ in range(count):
        above = [*row, 0]
        row = [0, *(above[j - 1] + j * above[j] for j in range(1, len(above)))]
    return sum(row[: size + 1])
