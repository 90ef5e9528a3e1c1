"""What matching solves for at once: a block is a group, together with the families inside of it.

On a piece, where every atom has an axis of its own,

    <W_a, g.W_b> = sum_{a, j, i} W_a[a, j, i] W_b[pi(a), sigma_a(j), rho(i)]

A plan depends on the specification alone and holds no weights.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.symmetry.spec.grammar import SpecError
from wsl.symmetry.spec.pieces import Piece, pieces
from wsl.symmetry.spec.specification import PermutationSpec


class Site(NamedTuple):
    """A place where a block acts: the axis of its group in a piece, and those of its families."""

    piece: int
    axis: int
    families: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """A group with its families; ``terms`` are its sites, by the blocks that they depend on.

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
    moving = tuple(
        piece for piece in pieces(spec, names) if any(isinstance(atom, str) for atom in piece.atoms)
    )
    blocks = {
        name: _block(spec, name, moving, per=per) for name, parent in per.items() if parent is None
    }
    return Plan(moving, blocks)


def _block(
    spec: PermutationSpec, name: str, pieces: tuple[Piece, ...], *, per: Mapping[str, str | None]
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
