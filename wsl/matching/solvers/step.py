"""A relative element of one block in some rows, and what it does to pieces, terms and indices.

    (step.b)[r, a, j] = flip[r, a] b[r, group[r, a], families[r, a, j]]

Rows that do not move are not touched: they are neither gathered nor copied one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock
from wsl.symmetry import Piece, gather_rows

Scores = dict[str, Tensor]
"""The matrix A of a block's group (R, n, n), and of each of its families (R, n k, n k), by name."""
Rows = Tensor | slice
"""Numbers of some rows, int64 on the CPU; ``slice(None)`` is all of them, without a copy."""
ALL = slice(None)
_LARGE = 2**14
"""Entries of a row that are worth a call of their own."""


class BlockStep(NamedTuple):
    """A relative element of one block for the ``rows`` that it improves, with what they gain.

    (step.b)[a, j] = flip[a] b[group[a], families[a, j]] in each row; ``flip`` is None unless odd.
    """

    rows: Rows
    group: Tensor
    families: Scores
    flip: Tensor | None
    gain: Tensor

    def where(self, good: Tensor) -> BlockStep:
        """The same for the rows marked in ``good``."""
        if bool(good.all()):
            return self
        return BlockStep(
            pick(self.rows, good),
            self.group[good],
            {name: index[good] for name, index in self.families.items()},
            None if self.flip is None else self.flip[good],
            self.gain[good],
        )


class MovedUnits(NamedTuple):
    """The few units of a group that a step of one row moves: ``index`` (n,) and which, (k,)."""

    group: str
    index: Tensor
    moved: Tensor

    @classmethod
    def of(cls, block: GroupBlock, step: BlockStep) -> MovedUnits | None:
        """Those of a step; None if there are many, or if more than whole units of one row move."""
        one = isinstance(step.rows, slice) and len(step.group) == 1
        if block.families or step.flip is not None or not one:
            return None
        index = step.group[0]
        moved = (index != torch.arange(len(index), device=index.device)).nonzero()[:, 0]
        return cls(block.group, index, moved) if 2 * len(moved) <= len(index) else None

    def change(self, piece: Piece, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Of a piece (*shape) and one row of it the units that move, and what the row gains there.

        What comes to stand there less what stood there. The group acts once on the piece.
        """
        axis = piece.atoms.index(self.group)
        new, old = (
            pair[1].index_select(axis + 1, at) for at in (self.index[self.moved], self.moved)
        )
        return pair[0].index_select(axis, self.moved), new - old


def move_piece(piece: Piece, tensor: Tensor, *, block: GroupBlock, step: BlockStep) -> Tensor:
    """The rows of the step in one piece (R, *shape), moved."""
    for axis in (axis for axis, atom in enumerate(piece.atoms, 1) if atom == block.group):
        tensor = _gather(tensor, axis, step.group)
        tensor = tensor if step.flip is None else tensor * _along(step.flip, tensor, (axis,))
    for axis, (atom, parent) in enumerate(zip(piece.atoms, piece.parents, strict=True), 1):
        if parent is not None and atom in step.families:
            index = _along(step.families[str(atom)], tensor, (parent + 1, axis))
            tensor = tensor.take_along_dim(index, axis)
    return tensor


def _gather(tensor: Tensor, axis: int, index: Tensor) -> Tensor:
    # index_select is several times faster than a gather by rows, one row is the usual case, and of
    # large rows a loop is faster still.
    if len(tensor) == 1:
        return tensor.index_select(axis, index[0])
    if tensor[0].numel() < _LARGE or tensor.device.type != "cpu":
        return gather_rows(tensor, axis, index)
    moved = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    for row, old, new in zip(index, tensor, moved, strict=True):
        torch.index_select(old, axis - 1, row, out=new)
    return moved


def _along(values: Tensor, like: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``values`` (R, ...) shaped to stand on ``axes`` of ``like`` (R, ...), 1 elsewhere."""
    shape = [n if i == 0 or i in axes else 1 for i, n in enumerate(like.shape)]
    return values.reshape(shape)


def _columns(matrices: Tensor, columns: Tensor) -> Tensor:
    """Columns (R, m) of matrices (R, n, m), each row's own; one row is gathered twice as fast."""
    if len(columns) == 1:
        return matrices.index_select(2, columns[0])
    return matrices.take_along_dim(columns[:, None, :], 2)


def move_term(block: GroupBlock, step: BlockStep, term: Scores) -> Scores:
    """A kept term after the step: its columns belong to the units of b."""
    moved: Scores = {}
    for name, matrix in term.items():
        columns = step.group
        if name != block.group:
            inner = step.families[name]
            columns = (step.group[..., None] * inner.shape[2] + inner).flatten(1)
        new = _columns(matrix[step.rows], columns)
        new = new if step.flip is None else new * step.flip[:, None, :]
        moved[name] = put(matrix, step.rows, new)
    return moved


def pick(rows: Rows, good: Tensor) -> Rows:
    """The rows marked in ``good``, which has an entry for each of ``rows``."""
    if bool(good.all()):
        return rows
    return good.nonzero()[:, 0] if isinstance(rows, slice) else rows[good]


def put(tensor: Tensor, rows: Rows, new: Tensor) -> Tensor:
    """``tensor`` with some of its rows replaced; the old one stays as it is."""
    if isinstance(rows, slice):
        return new
    return tensor.index_copy(0, rows.to(tensor.device), new)


def choose(rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """``old`` in the rows marked, ``new`` in the others."""
    mask = rows.to(new.device).view(-1, *[1] * (new.dim() - 1))
    return torch.where(mask, old, new)


def positions(rows: Rows, some: Rows, count: int) -> Rows:
    """Where ``some`` of ``rows`` stand among them."""
    if isinstance(rows, slice) or isinstance(some, slice):
        return some
    place = torch.zeros(count, dtype=torch.long)
    place[rows] = torch.arange(len(rows))
    return place[some]


def join(steps: Sequence[BlockStep]) -> BlockStep | None:
    """Steps of different rows as one."""
    if len(steps) < 2:
        return steps[0] if steps else None
    return BlockStep(
        torch.cat([step.rows for step in steps if isinstance(step.rows, Tensor)]),
        torch.cat([step.group for step in steps]),
        {name: torch.cat([step.families[name] for step in steps]) for name in steps[0].families},
        None,
        torch.cat([step.gain for step in steps]),
    )
