"""How a tensor that is too large to be held is read part by part while units are matched.

    rows        where no group moves the first axis: as many rows at a time as fill `PART`
    entries     where a group has units inside its units, as experts have: one expert at a time
    whole       where neither is possible

The rows of one expert lie side by side in the file, since the group is the outermost factor of its
axis.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor

from wsl.matching.large.files import TensorSlices
from wsl.matching.large.joined import narrowed
from wsl.symmetry import Piece

PART = 2**24
"""Entries of a piece that are read at a time, where it may be cut."""


class Cut(NamedTuple):
    """``rows`` of the first atom, or the entry ``number`` of the atom ``axis``."""

    rows: slice = slice(None)
    axis: int | None = None
    number: int = 0


WHOLE = Cut()


def cuts(piece: Piece, apart: Collection[str] = ()) -> list[Cut]:
    """The parts of a piece; ``apart`` are the groups of which one entry is read at a time."""
    axis = entry_axis(piece, apart)
    if axis is not None:
        return [Cut(axis=axis, number=i) for i in range(piece.shape[axis])]
    if not piece.shape or isinstance(piece.atoms[0], str):
        return [WHOLE]
    step = max(1, PART // max(1, math.prod(piece.shape[1:])))
    return [Cut(slice(i, min(i + step, piece.shape[0]))) for i in range(0, piece.shape[0], step)]


def entry_axis(piece: Piece, apart: Collection[str]) -> int | None:
    """The atom of a group of ``apart`` that has a family in the piece."""
    return next((p for p in piece.parents if p is not None and piece.atoms[p] in apart), None)


def read_part(tensor: TensorSlices, piece: Piece, cut: Cut) -> Tensor:
    """The part of a piece, an axis for each atom; only what is in it is read, if it lies so."""
    if not piece.window:
        return tensor[...]
    at, bounds, shape = _first_read(piece, cut)
    part = narrowed(tensor, at, bounds)
    for axis, (begin, size) in enumerate(piece.window):
        part = part if axis == at else part.narrow(axis, begin, size)
    return part.reshape(shape)


def _first_read(piece: Piece, cut: Cut) -> tuple[int, tuple[int, int], tuple[int, ...]]:
    """The axis of the tensor on which a cut is made, where, and the shape of what it leaves."""
    if cut.axis is None:
        start, length = piece.window[0]
        first, stop, _ = cut.rows.indices(piece.shape[0])
        inner = length // piece.shape[0]
        shape = (stop - first, *piece.shape[1:])
        return 0, (start + first * inner, start + stop * inner), shape
    at = outermost_at(piece, cut.axis)
    start, length = piece.window[at]
    inner = length // piece.shape[cut.axis]
    shape = (*piece.shape[: cut.axis], 1, *piece.shape[cut.axis + 1 :])
    return at, (start + cut.number * inner, start + (cut.number + 1) * inner), shape


def outermost_at(piece: Piece, atom: int) -> int:
    """The axis of the tensor on which an atom is the outermost factor; -1 if it is on none."""
    before, lengths = math.prod(piece.shape[:atom]), [length for _, length in piece.window]
    fitting = (
        at
        for at, length in enumerate(lengths)
        if math.prod(lengths[:at]) == before and length > 1 and length % piece.shape[atom] == 0
    )
    return next(fitting, -1)
