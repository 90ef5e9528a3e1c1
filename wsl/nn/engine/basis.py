"""The basis of equivariant linear maps: set partitions of axes whose parts share one group label.

A tensor is cut at its concatenations into blocks; a block is a view with one axis per permutable
atom, its fixed atoms folded into channels. For blocks a (input) and b (output) the equivariant maps
have one basis element for each partition of the axes of a and b together into parts of equal label,
at most n_p parts for a group of size n_p, so

    dim Hom(a, b) = prod_p B_{n_p}(m_p(a) + m_p(b)) * prod(fixed sizes),      B_n(k) = sum_{j <= n}
        S(k, j)

Maron et al. (2019), arXiv 1812.09902; Zhou et al. (2024), Universal Neural Functionals, arXiv
2402.05232, section 3. A family (``dk = 16 per head``, a wreath product) is exact too: axes of the
family may share a part only where their parent axes share one. Groups of size one are fixed axes. A
family of a family is refused. Nothing here computes with tensors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from wsl.symmetry import Atom, PermutationSpec, Segment, SpecError


class GroupAxis(NamedTuple):
    """A permutable axis of a block; ``parent`` is the axis of the same block that a family hangs
    on.
    """

    group: str
    size: int
    parent: int | None = None


Space = tuple[GroupAxis, ...]
"""The permutable axes of a block: a representation of the symmetry group on tensors of that shape.
"""
Part = tuple[int, ...]
"""Axes (by index, ascending) that carry one common index."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A piece of a tensor between cuts: ``space`` are its permutable axes, ``fixed`` the product of
    its other sizes.

    ``spans`` is (start, length) on each axis of the tensor, ``sizes`` the lengths after products
    are unfolded, ``order`` the unfolded axes with the permutable ones first.
    """

    tensor: str
    spans: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    space: Space
    fixed: int


@lru_cache(maxsize=256)
def blocks(spec: PermutationSpec) -> tuple[Block, ...]:
    """All blocks of a specification, tensor by tensor, row-major over the cuts. Raises `SpecError`
    for nested families.
    """
    found = []
    for name, axes in spec.annotations:
        cuts = [list(zip(_spans(spec, axis), axis, strict=True)) for axis in axes]
        found += [_block(spec, name, choice) for choice in itertools.product(*cuts)]
    return tuple(found)


def _spans(spec: PermutationSpec, axis: Sequence[Segment]) -> list[tuple[int, int]]:
    lengths = [spec.segment_size(segment) for segment in axis]
    return list(zip(itertools.accumulate(lengths, initial=0), lengths, strict=False))


def _block(
    spec: PermutationSpec, name: str, choice: Sequence[tuple[tuple[int, int], Segment]]
) -> Block:
    per = {group.name: group.per for group in spec.declared}
    atoms: list[tuple[Atom, int | None]] = []  # atom, and the unfolded axis of its parent
    for _, segment in choice:
        start = len(atoms)
        for atom in segment:
            parent = per[atom] if isinstance(atom, str) else None
            if parent is not None and per[parent] is not None:
                raise SpecError(
                    f"{name}: '{atom}' is a family per '{parent}', itself a family; only one "
                    "level is supported"
                )
            atoms.append((atom, None if parent is None else start + segment.index(parent)))
    sizes = tuple(spec.segment_size((atom,)) for atom, _ in atoms)
    moving = [i for i, (atom, _) in enumerate(atoms) if isinstance(atom, str) and sizes[i] > 1]
    still = [i for i in range(len(atoms)) if i not in moving]
    place = {axis: position for position, axis in enumerate(moving)}
    space = tuple(GroupAxis(str(atoms[i][0]), sizes[i], place.get(atoms[i][1])) for i in moving)  # type: ignore[arg-type]
    spans = tuple(span for span, _ in choice)
    return Block(name, spans, sizes, (*moving, *still), space, math.prod(sizes[i] for i in still))


def partitions(space: Space) -> Iterator[tuple[Part, ...]]:
    """Partitions of the axes into parts of one label and one parent part that some index tuple
    realises.
    """
    yield from _extend(space, 0, ())


def _extend(space: Space, axis: int, parts: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    if axis == len(space):
        yield parts
        return
    alike = [
        i
        for i, part in enumerate(parts)
        if _kind(space, parts, (axis,)) == _kind(space, parts, part)
    ]
    for i in alike:
        yield from _extend(space, axis + 1, (*parts[:i], (*parts[i], axis), *parts[i + 1 :]))
    if len(alike) < space[axis].size:
        yield from _extend(space, axis + 1, (*parts, (axis,)))


def parent_part(space: Space, parts: Sequence[Part], part: Part) -> int | None:
    """Index in ``parts`` of the part that the family of ``part`` hangs on."""
    parent = space[part[0]].parent
    return None if parent is None else next(i for i, other in enumerate(parts) if parent in other)


def _kind(space: Space, parts: Sequence[Part], part: Part) -> tuple[str, int | None]:
    return space[part[0]].group, parent_part(space, parts, part)


@lru_cache(maxsize=4096)
def dimension(source: Space, target: Space = ()) -> int:
    """dim Hom(source, target) of two blocks without fixed axes; with one argument, the number of
    invariant vectors.
    """
    joined = join(source, target)
    if any(axis.parent is not None for axis in joined):
        return sum(1 for _ in partitions(joined))
    counts, sizes = (
        Counter(axis.group for axis in joined),
        {axis.group: axis.size for axis in joined},
    )
    return math.prod(bell(k, sizes[group]) for group, k in counts.items())


def join(source: Space, target: Space) -> Space:
    """The axes of both blocks, those of ``source`` first."""
    return source + tuple(
        a if a.parent is None else a._replace(parent=a.parent + len(source)) for a in target
    )


def layer_dimension(spec: PermutationSpec, bias: bool = True) -> tuple[int, int]:
    """Numbers of equivariant linear maps and of invariant vectors per pair of channels, from the
    closed form.
    """
    kinds = Counter()
    for block in blocks(spec):
        kinds[block.space] += block.fixed
    linear = sum(m * n * dimension(a, b) for a, m in kinds.items() for b, n in kinds.items())
    return linear, sum(n * dimension(b) for b, n in kinds.items()) if bias else 0


def bell(count: int, size: int) -> int:
    """B_size(count): partitions of ``count`` things into at most ``size`` parts; the Bell number if
    ``size >= count``.
    """
    row = [1]  # Stirling numbers of the second kind S(k, 0..k)
    for _ in range(count):
        row = [
            0,
            *(row[j - 1] + j * (row[j] if j < len(row) else 0) for j in range(1, len(row) + 1)),
        ]
    return sum(row[: size + 1])
