"""Weights cut into pieces on which groups act axis by axis, so that one matching algorithm serves
every annotation.

A tensor whose axes are concatenations is cut at the seams; in a piece every axis is one product,
which is unfolded into an axis per atom. ``qkv.weight: (head dk)+(head dv) d`` becomes two pieces,
(head, dk, d) and (head, dv, d). On a piece

    <W_a, g.W_b> = sum_{a, j, i} W_a[a, j, i] W_b[pi(a), sigma_a(j), rho(i)]

A block is what is solved for at once: a group, together with the families that live inside it. A
plan depends on the specification alone and holds no weights.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.symmetry.spec.grammar import Atom, Axes, Segment, SpecError
from wsl.symmetry.spec.specification import PermutationSpec


class Piece(NamedTuple):
    """A window of one tensor, seen with one axis per atom; ``parents`` gives the axis of the group
    a family is per.
    """

    tensor: str
    window: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    atoms: tuple[Atom, ...]
    parents: tuple[int | None, ...]

    def cut(self, params: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The piece of ``params``, in dtype and on the device of ``like``."""
        tensor = params[self.tensor]
        for axis, (start, length) in enumerate(self.window):
            tensor = tensor.narrow(axis, start, length)
        return tensor.reshape(self.shape).to(like)


class Site(NamedTuple):
    """A place where a block acts: the axis of its group in a piece, and the axes of its families
    there.
    """

    piece: int
    axis: int
    families: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """A group with its families. ``terms``: its sites, by the blocks whose permutations they depend
    on.

    A block that depends on itself acts more than once on some piece: its objective is not linear in
    its permutation.
    """

    group: str
    size: int
    families: tuple[tuple[str, int], ...]
    terms: Mapping[tuple[str, ...], tuple[Site, ...]]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every place where the block acts."""
        return tuple(itertools.chain(*self.terms.values()))

    @functools.cached_property
    def pieces(self) -> tuple[int, ...]:
        """The pieces on which the block acts."""
        return tuple(dict.fromkeys(site.piece for site in self.sites))

    @functools.cached_property
    def linear(self) -> bool:
        """Whether the objective is linear in this block's permutations."""
        return all(self.group not in others for others in self.terms)


class Plan(NamedTuple):
    """The pieces of the tensors that count, and the blocks by the name of their group."""

    pieces: tuple[Piece, ...]
    blocks: Mapping[str, Block]


@functools.lru_cache(maxsize=32)
def plan(spec: PermutationSpec, names: tuple[str, ...]) -> Plan:
    """Cut the tensors ``names`` of ``spec``; pieces that nothing permutes are left out.

    Raises `SpecError` for a family inside a family.
    """
    per = {group.name: group.per for group in spec.declared}
    for name, parent in per.items():
        if parent is not None and per[parent] is not None:
            raise SpecError(
                f"group '{name}' is per '{parent}', which is itself per '{per[parent]}'; matching "
                "knows one level"
            )
    cut = [piece for name in names for piece in _pieces(spec, name, spec.axes[name], per)]
    pieces = tuple(piece for piece in cut if any(isinstance(atom, str) for atom in piece.atoms))
    blocks = {
        name: _block(spec, name, pieces, per) for name, parent in per.items() if parent is None
    }
    return Plan(pieces, blocks)


def _pieces(
    spec: PermutationSpec, name: str, axes: Axes, per: Mapping[str, str | None]
) -> Iterator[Piece]:
    starts = [
        list(itertools.accumulate((spec.segment_size(segment) for segment in axis), initial=0))
        for axis in axes
    ]
    for choice in itertools.product(*(range(len(axis)) for axis in axes)):
        segments = [axis[k] for axis, k in zip(axes, choice, strict=True)]
        window = tuple(
            (ends[k], ends[k + 1] - ends[k]) for ends, k in zip(starts, choice, strict=True)
        )
        atoms = tuple(itertools.chain(*segments))
        shape = tuple(spec.segment_size((atom,)) for atom in atoms)
        yield Piece(name, window, shape, atoms, tuple(_parents(segments, per)))


def _parents(segments: list[Segment], per: Mapping[str, str | None]) -> Iterator[int | None]:
    start = 0
    for segment in segments:
        for atom in segment:
            parent = per[atom] if isinstance(atom, str) else None
            yield None if parent is None else start + segment.index(parent)
        start += len(segment)


def _block(
    spec: PermutationSpec, name: str, pieces: tuple[Piece, ...], per: Mapping[str, str | None]
) -> Block:
    families = tuple((group.name, group.size) for group in spec.declared if group.per == name)
    terms: dict[tuple[str, ...], tuple[Site, ...]] = {}
    for p, piece in enumerate(pieces):
        for axis in (i for i, atom in enumerate(piece.atoms) if atom == name):
            inside = [i for i, parent in enumerate(piece.parents) if parent == axis]
            rest = [
                atom
                for i, atom in enumerate(piece.atoms)
                if i != axis and i not in inside and isinstance(atom, str)
            ]
            others = tuple(
                dict.fromkeys([per[atom] or atom for atom in rest] + [name] * (len(inside) > 1))
            )
            site = Site(p, axis, tuple((str(piece.atoms[i]), i) for i in inside))
            terms[others] = (*terms.get(others, ()), site)
    return Block(name, spec.groups[name], families, terms)


def unfold(piece: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Matrix with the given axes as rows and all others as columns."""
    rows = math.prod(piece.shape[axis] for axis in axes)
    return piece.movedim(axes, tuple(range(len(axes)))).reshape(rows, -1)
