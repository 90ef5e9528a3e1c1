"""Units as nodes and tensors as arrays between them, with a parity under sign flips at each end.

    block (batch, units a, units b, K):      theta_ij -> s_i^p s_j^q theta_ij

with p, q in {0, 1} for each sign line of the groups. A `Slot` is a group with one parity: its nodes
carry features that flip so. Fixed axes (inputs, outputs, kernels, gates) are the K channels. With
no axis of units a block is global, with one it belongs to nodes, with two it carries messages; more
are refused. A tensor with both axes on one group gives its diagonal to the nodes as well. A family
(head, dk) is one row of head * dk nodes. Nothing here computes but `NodeBlocks.split`, which cuts
weights into those arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.nn.engine import BlockLayout, TensorBlock
from wsl.symmetry import PermutationSpec, Piece, SpecError, windows

Parity = tuple[int, ...]
"""Which sign lines of its group act on an axis: numbers of lines, ascending; empty is even."""


class Slot(NamedTuple):
    """Nodes of a group whose signed features flip under the lines of ``parity``.

    They have none if it is empty.
    """

    group: str
    parity: Parity


class NodeBlock(NamedTuple):
    """A block by its ends, first the axis of outputs, with ``channels`` K.

    ``source`` is the number of the block in the layout; ``diagonal`` says that it is its diagonal.
    """

    ends: tuple[Slot, ...]
    channels: int
    source: int
    diagonal: bool = False


@dataclasses.dataclass(frozen=True)
class NodeBlocks:
    """All blocks of a specification, and ``slots``, signed ones first."""

    spec: PermutationSpec
    layout: BlockLayout = dataclasses.field(init=False, compare=False, repr=False)
    pieces: tuple[NodeBlock, ...] = dataclasses.field(init=False, compare=False, repr=False)
    slots: tuple[Slot, ...] = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_signs(self.spec)
        layout = BlockLayout(self.spec)
        whole = [_node_block(self.spec, block, i) for i, block in enumerate(layout.blocks)]
        tied = [own for own in whole if _tied(own, layout.blocks[own.source])]
        pieces = (*whole, *map(_diagonal, tied))
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "slots", _slots(self.spec, pieces))

    @property
    def signed(self) -> int:
        """How many slots have signed features."""
        return sum(1 for slot in self.slots if slot.parity)

    @property
    def sizes(self) -> list[int]:
        """Nodes of each slot; a family has those of all its parents."""
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

    def with_ends(self, count: int) -> list[tuple[int, NodeBlock]]:
        """Those of ``pieces`` with so many ends, and their numbers."""
        return [(i, piece) for i, piece in enumerate(self.pieces) if len(piece.ends) == count]

    def families(self) -> list[tuple[str, str]]:
        """Pairs of a family and its parent."""
        return [
            (g.name, g.per)
            for g in self.spec.declared
            if g.per and g.size > 1 and self.spec.groups[g.per] > 1
        ]

    def split(self, params: Mapping[str, Tensor]) -> list[Tensor]:
        """Each of ``pieces`` as (batch, units of its ends, K)."""
        parts = self.layout.split_weights(params)
        whole = [_rows(part, block) for part, block in zip(parts, self.layout.blocks, strict=True)]
        return [
            whole[piece.source].diagonal(dim1=1, dim2=2).movedim(-1, 1)
            if piece.diagonal
            else whole[piece.source]
            for piece in self.pieces
        ]


def _slots(spec: PermutationSpec, pieces: Iterable[NodeBlock]) -> tuple[Slot, ...]:
    """One for each parity other than even that a group's ends have; one for each other group."""
    found = dict.fromkeys(end for piece in pieces for end in piece.ends)
    signed = [slot for slot in found if slot.parity]
    covered = {slot.group for slot in signed}
    groups = dict.fromkeys(group.name for group in spec.declared if group.size > 1)
    return (*signed, *(Slot(group, ()) for group in groups if group not in covered))


def alive(block: TensorBlock) -> list[int]:
    """Axes of a block that carry nodes: not the parents of families."""
    parents = {axis.parent for axis in block.space}
    return [k for k in range(len(block.space)) if k not in parents]


def _rows(part: Tensor, block: TensorBlock) -> Tensor:
    """(*axes, batch, K) to (batch, nodes of each end, K); a family and its parent are one end."""
    order, sizes = [], []
    for k in alive(block):
        parent = block.space[k].parent
        dims = [k] if parent is None else [parent, k]
        order += dims
        sizes.append(math.prod([block.space[dim].size for dim in dims]))
    moving = len(block.space)
    return part.permute(moving, *order, moving + 1).reshape(part.shape[-2], *sizes, part.shape[-1])


def _node_block(spec: PermutationSpec, block: TensorBlock, source: int) -> NodeBlock:
    live, places = alive(block), _places(spec, block.piece)
    _check(block, live)
    ends = [Slot(block.space[k].group, _parity(spec, places[block.order[k]])) for k in live]
    return NodeBlock(tuple(ends), block.fixed, source)


def _places(spec: PermutationSpec, piece: Piece) -> list[tuple[str, int, int, int]]:
    """Where each axis of a piece stands: tensor, axis, segment, factor."""
    return [
        (piece.tensor, axis, segment, factor)
        for axis, (start, _) in enumerate(piece.window)
        for segment, window in enumerate(windows(spec, spec.axes[piece.tensor][axis]))
        if window.start == start
        for factor in range(len(window.atoms))
    ]


def _parity(spec: PermutationSpec, place: tuple[str, int, int, int]) -> Parity:
    tensor, axis, segment, factor = place
    group = spec.axes[tensor][axis][segment][factor]
    lines = [unit for unit in spec.units if unit.kind == "sign" and unit.group == group]
    return tuple(i for i, unit in enumerate(lines) if any(p[:4] == place for p in unit.places))


def _tied(own: NodeBlock, block: TensorBlock) -> bool:
    """Whether both ends are one group, and it is no family."""
    groups = [end.group for end in own.ends]
    return len(groups) == 2 and groups[0] == groups[1] and block.space[0].parent is None


def _diagonal(piece: NodeBlock) -> NodeBlock:
    """Its one end flips where exactly one of the two ends flips."""
    (group, first), (_, second) = piece.ends
    both = tuple(sorted(set(first) ^ set(second)))
    return piece._replace(ends=(Slot(group, both),), diagonal=True)


def _check(block: TensorBlock, live: list[int]) -> None:
    parents = [block.space[k].parent for k in live if block.space[k].parent is not None]
    if len(live) > 2 or len(set(parents)) < len(parents):
        raise SpecError(
            f"{block.piece.tensor}: has {len(live)} permutable axes, but a message goes from one "
            "row of units to another; use a functional on the equivariant engine, such as UNF"
        )


def _check_signs(spec: PermutationSpec) -> None:
    parents = {group.per for group in spec.declared}
    for unit in spec.units:
        if unit.kind == "sign" and (unit.group in parents or spec.groups[unit.group] == 1):
            alone = spec.groups[unit.group] == 1
            what = "a single unit" if alone else "units that a family hangs on"
            raise SpecError(
                f"{unit.head}: signs of {what} are not supported; leave this line out, or use UNF "
                "with odd groups"
            )
