"""Units as nodes and tensors as arrays between them, with the parity that each end has under sign
flips of units.

    block (batch, units a, units b, K):   theta_ij -> s_i^p s_j^q theta_ij,     p, q in {0, 1} for
        each sign line of the groups

A `Slot` is a group with one parity: its nodes carry features that flip so. Fixed axes (inputs,
outputs, kernels, gates) are the K channels. With no axis of units a block is global, with one it
belongs to nodes, with two it carries messages; more are refused. A tensor with both axes on one
group gives its diagonal to the nodes as well. A family (head, dk) is one row of head * dk nodes.
Nothing here computes but `Blocks.split`, which cuts weights into those arrays.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.nn.engine import Block, Layout
from wsl.symmetry import PermutationSpec, SpecError

Parity = tuple[int, ...]
"""Which sign lines of its group act at a place: numbers of lines, ascending; empty is even."""


class Slot(NamedTuple):
    """Nodes of a group whose signed features flip under the lines of ``parity``; none if it is
    empty.
    """

    group: str
    parity: Parity


class Piece(NamedTuple):
    """A block: its ends, first the axis of outputs; ``channels`` K of them; ``diagonal`` of the
    block at number ``source``.
    """

    ends: tuple[Slot, ...]
    channels: int
    source: int
    diagonal: bool = False


@dataclasses.dataclass(frozen=True)
class Blocks:
    """All pieces of a specification, ``slots`` with signed ones first, ``sizes`` their numbers of
    nodes.
    """

    spec: PermutationSpec
    layout: Layout = dataclasses.field(init=False, compare=False, repr=False)
    pieces: tuple[Piece, ...] = dataclasses.field(init=False, compare=False, repr=False)
    slots: tuple[Slot, ...] = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_signs(self.spec)
        layout = Layout(self.spec)
        object.__setattr__(self, "layout", layout)
        pieces = list(_pieces(self.spec))
        pieces += [
            _diagonal(piece)
            for piece in pieces
            if len(piece.ends) == 2
            and len({end.group for end in piece.ends}) == 1
            and layout.blocks[piece.source].space[0].parent is None
        ]
        found = dict.fromkeys(end for piece in pieces for end in piece.ends)
        signed = [slot for slot in found if slot.parity]
        covered = {slot.group for slot in signed}
        groups = dict.fromkeys(group.name for group in self.spec.declared if group.size > 1)
        plain = [Slot(group, ()) for group in groups if group not in covered]
        object.__setattr__(self, "pieces", tuple(pieces))
        object.__setattr__(self, "slots", (*signed, *plain))

    @property
    def signed(self) -> int:
        """How many slots have signed features."""
        return sum(1 for slot in self.slots if slot.parity)

    @property
    def sizes(self) -> list[int]:
        """Nodes of each slot."""
        sizes = {
            g.name: g.size * (self.spec.groups[g.per] if g.per else 1) for g in self.spec.declared
        }
        return [sizes[slot.group] for slot in self.slots]

    def targets(self, end: Slot) -> list[int]:
        """Slots that an end speaks to: its own, or all of its group if it is even."""
        return [
            i
            for i, slot in enumerate(self.slots)
            if slot == end or (not end.parity and slot.group == end.group)
        ]

    def families(self) -> list[tuple[str, str]]:
        """Pairs of a family and its parent."""
        return [
            (g.name, g.per)
            for g in self.spec.declared
            if g.per and g.size > 1 and self.spec.groups[g.per] > 1
        ]

    def split(self, params: Mapping[str, Tensor]) -> list[Tensor]:
        """Each piece as (batch, units of its ends, K)."""
        parts = self.layout.split({name: tensor.unsqueeze(-1) for name, tensor in params.items()})
        whole = [_rows(part, block) for part, block in zip(parts, self.layout.blocks, strict=True)]
        return [
            whole[piece.source].diagonal(dim1=1, dim2=2).movedim(-1, 1)
            if piece.diagonal
            else whole[piece.source]
            for piece in self.pieces
        ]


def alive(block: Block) -> list[int]:
    """Axes of a block that carry nodes: not those that a family hangs on."""
    parents = {axis.parent for axis in block.space}
    return [k for k in range(len(block.space)) if k not in parents]


def _rows(part: Tensor, block: Block) -> Tensor:
    order, sizes = [], []
    for k in alive(block):
        parent = block.space[k].parent
        dims = [k] if parent is None else [parent, k]
        order += dims
        sizes.append(math.prod([block.space[dim].size for dim in dims]))
    moving = len(block.space)
    return part.permute(moving, *order, moving + 1).reshape(part.shape[-2], *sizes, part.shape[-1])


def _pieces(spec: PermutationSpec):
    """Blocks in the order of `Layout`, with the place of every axis in its tensor."""
    numbers = itertools.count()
    found = iter(Layout(spec).blocks)
    for name, axes in spec.annotations:
        for choice in itertools.product(*(range(len(axis)) for axis in axes)):
            block, source = next(found), next(numbers)
            places = [(i, j, k) for i, j in enumerate(choice) for k in range(len(axes[i][j]))]
            live = alive(block)
            _check(name, block, live)
            ends = [
                Slot(block.space[k].group, _parity(spec, (name, *places[block.order[k]])))
                for k in live
            ]
            yield Piece(tuple(ends), block.fixed, source)


def _parity(spec: PermutationSpec, place: tuple[str, int, int, int]) -> Parity:
    group = spec.axes[place[0]][place[1]][place[2]][place[3]]
    lines = [unit for unit in spec.units if unit.kind == "sign" and unit.group == group]
    return tuple(i for i, unit in enumerate(lines) if any(p[:4] == place for p in unit.places))


def _diagonal(piece: Piece) -> Piece:
    (group, first), (_, second) = piece.ends
    return piece._replace(
        ends=(Slot(group, tuple(sorted(set(first) ^ set(second)))),), diagonal=True
    )


def _check(name: str, block: Block, live: list[int]) -> None:
    parents = [block.space[k].parent for k in live if block.space[k].parent is not None]
    if len(live) > 2 or len(set(parents)) < len(parents):
        raise SpecError(
            f"{name}: has {len(live)} permutable axes, but a message goes from one row of units "
            "to another; "
            "use a functional on the equivariant engine, such as UNF"
        )


def _check_signs(spec: PermutationSpec) -> None:
    parents = {group.per for group in spec.declared}
    for unit in spec.units:
        if unit.kind == "sign" and (unit.group in parents or spec.groups[unit.group] == 1):
            what = (
                "a single unit" if spec.groups[unit.group] == 1 else "units that a family hangs on"
            )
            raise SpecError(
                f"{unit.head}: signs of {what} are not supported; leave this line out, or use UNF "
                "with odd groups"
            )
