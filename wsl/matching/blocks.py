"""What is matched at once: the blocks of a specification, and where they act on its pieces.

In a piece every axis is one atom of the grammar, so one algorithm serves every annotation:

    <W_a, g.W_b> = sum_{a, j, i} W_a[a, j, i] W_b[pi(a), sigma_a(j), rho(i)]

A block is what is solved for at once: a group pi with the families sigma that live inside it. A
plan depends on the specification alone and holds no weights.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.symmetry import PermutationSpec, Piece, SpecError, pieces


class Site(NamedTuple):
    """One action of a block: the piece, the axis of its group there, and those of its families."""

    piece: int
    axis: int
    families: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class GroupBlock:
    """A group with its families; ``terms`` has its sites, by the groups that they depend on.

    A block that depends on itself acts more than once on some piece: its objective is not linear in
    its permutation.
    """

    group: str
    size: int
    families: tuple[tuple[str, int], ...]
    terms: Mapping[tuple[str, ...], tuple[Site, ...]]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every action of the block."""
        return tuple(itertools.chain(*self.terms.values()))

    @functools.cached_property
    def pieces(self) -> tuple[int, ...]:
        """The pieces on which the block acts."""
        return tuple(dict.fromkeys(site.piece for site in self.sites))

    @functools.cached_property
    def linear(self) -> bool:
        """Whether the objective is linear in this block's permutations."""
        return all(self.group not in others for others in self.terms)

    def known(self, solved: Mapping[str, object]) -> list[tuple[str, ...]]:
        """The terms that depend on nothing but the groups in ``solved``."""
        return [others for others in self.terms if all(group in solved for group in others)]


class MatchingPlan(NamedTuple):
    """The pieces that groups act on, those that stand still, and the blocks by their group."""

    pieces: tuple[Piece, ...]
    fixed: tuple[Piece, ...]
    blocks: Mapping[str, GroupBlock]

    def order(self, mass: list[float]) -> tuple[str, ...]:
        """The blocks from the best known to the least: most known mass per unit comes first.

        Known is what depends on fixed axes and on blocks earlier in the order; ``mass`` is given
        for each piece.
        """
        solved: dict[str, None] = {}
        while len(solved) < len(self.blocks):
            waiting = [block for name, block in self.blocks.items() if name not in solved]
            shares = [
                sum(
                    mass[site.piece]
                    for others in block.known(solved)
                    for site in block.terms[others]
                )
                / block.size
                for block in waiting
            ]
            solved[waiting[shares.index(max(shares))].group] = None
        return tuple(solved)


@functools.lru_cache(maxsize=32)
def plan(spec: PermutationSpec, names: tuple[str, ...]) -> MatchingPlan:
    """Cut the tensors ``names`` of ``spec``; raises `SpecError` for a family inside a family."""
    per = _parents(spec)
    cut = pieces(spec, names)
    moved = tuple(piece for piece in cut if any(isinstance(atom, str) for atom in piece.atoms))
    fixed = tuple(piece for piece in cut if all(isinstance(atom, int) for atom in piece.atoms))
    blocks = {
        name: _block(spec, name, moved, per=per) for name, parent in per.items() if parent is None
    }
    return MatchingPlan(moved, fixed, blocks)


def _parents(spec: PermutationSpec) -> dict[str, str | None]:
    """What each group is per; raises `SpecError` where that is per another one."""
    per = {group.name: group.per for group in spec.declared}
    for name, parent in per.items():
        if parent is not None and per[parent] is not None:
            raise SpecError(
                f"group '{name}' is per '{parent}', which is itself per '{per[parent]}'; matching "
                "knows one level"
            )
    return per


def cut_rows(piece: Piece, params: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """The piece of stacked weights, (N, *shape), in dtype and on the device of ``like``."""
    tensor = params[piece.tensor]
    for axis, (start, length) in enumerate(piece.window, 1):
        tensor = tensor.narrow(axis, start, length)
    return tensor.reshape(len(tensor), *piece.shape).to(like)


def unfold(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Rows (N, *shape) as matrices (N, r, c): the given axes of ``shape`` against all others."""
    rows = math.prod(tensor.shape[axis + 1] for axis in axes)
    front = tensor.movedim(tuple(axis + 1 for axis in axes), tuple(range(1, len(axes) + 1)))
    return front.reshape(len(tensor), rows, math.prod(tensor.shape[1:]) // rows)


def _block(
    spec: PermutationSpec, name: str, cut: tuple[Piece, ...], *, per: Mapping[str, str | None]
) -> GroupBlock:
    families = tuple((group.name, group.size) for group in spec.declared if group.per == name)
    terms: dict[tuple[str, ...], tuple[Site, ...]] = {}
    for p, piece in enumerate(cut):
        for axis in (i for i, atom in enumerate(piece.atoms) if atom == name):
            site = Site(p, axis, _inside(piece, axis))
            others = _others(piece, site, per=per)
            terms[others] = (*terms.get(others, ()), site)
    return GroupBlock(name, spec.groups[name], families, terms)


def _inside(piece: Piece, axis: int) -> tuple[tuple[str, int], ...]:
    """The families inside the group that stands on an axis, with their axes."""
    own = (i for i, parent in enumerate(piece.parents) if parent == axis)
    return tuple((str(piece.atoms[i]), i) for i in own)


def _others(piece: Piece, site: Site, *, per: Mapping[str, str | None]) -> tuple[str, ...]:
    """The groups that a site depends on; two families in one product make it depend on itself."""
    own = {site.axis, *(axis for _, axis in site.families)}
    rest = [atom for i, atom in enumerate(piece.atoms) if i not in own and isinstance(atom, str)]
    itself = [str(piece.atoms[site.axis])] * (len(site.families) > 1)
    return tuple(dict.fromkeys([per[atom] or atom for atom in rest] + itself))
