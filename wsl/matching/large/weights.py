"""The weights of one problem where they lie: read piece by piece, moved as they are read.

    A_p += unfold(W_a[part]) unfold((g.W_b)[part])^T          part by part

What is held are scores and the element g found so far; a piece of b is read from its file and moved
by g whenever it is needed. Pieces whose first axis no group permutes are read in parts along it;
others whole. So an ascent runs in the memory of a few of the largest tensors. Work is done in
float32, whatever the files hold, and inner products are summed in float64: what `CutWeights` does,
with the same results to the bit where pieces are read whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site
from wsl.matching.large.files import Source, TensorSlices
from wsl.matching.solvers import (
    ALL,
    BlockStep,
    FoundRows,
    MovedUnits,
    Rows,
    Scores,
    blind_gram,
    gram,
    move_piece,
    noise_of,
    products,
    total,
    unknown_axes,
)
from wsl.symmetry import Piece

PART = 2**24
"""Entries of a piece that are read at a time, where it may be cut."""
MOST_KEPT = 2**27
"""Entries of scores that are kept between visits: half a gigabyte."""


class _Part(NamedTuple):
    """The same part of a piece of both checkpoints; ``b`` is a row (1, *shape), moved."""

    a: Tensor
    b: Tensor


class _Seen(NamedTuple):
    """The norms of a piece of both checkpoints, and their inner product as b stands in its file."""

    a: float
    b: float
    product: Tensor

    @property
    def mass(self) -> Tensor:
        """The product of the norms, float64 (1,)."""
        return torch.tensor([self.a * self.b], dtype=torch.float64)


class StreamedWeights:
    """Pieces of two sources, ``a`` and ``b``; see `RowWeights` for what they answer.

    Raises ValueError where a weight is NaN or infinite.
    """

    count: int = 1
    most_kept: float = MOST_KEPT

    def __init__(self, plan: MatchingPlan, a: Source, b: Source) -> None:
        self.plan, self.a, self.b = plan, a, b
        self.like = torch.empty(0, dtype=_precision([a[piece.tensor] for piece in plan.pieces]))
        self.found = FoundRows(plan, 1, ())
        self._acting = [_blocks_of(piece, plan) for piece in plan.pieces]
        seen = [self._seen(piece) for piece in plan.pieces]
        self.size = [each.a for each in seen]
        self.mass = [each.mass for each in seen]
        self._start = [each.product for each in seen]

    def state(self) -> FoundRows:
        """The element found so far, which says where the row stands."""
        return self.found.clone()

    def after(self, block: GroupBlock, step: BlockStep) -> FoundRows:
        """The element after a step."""
        state = self.found.clone()
        state.take(block, step)
        return state

    def inner(self, which: Iterable[int], state: FoundRows) -> Tensor:
        """See `RowWeights`."""
        if state.still:
            return sum((self._start[p] for p in which), torch.zeros(1, dtype=torch.float64))
        return _summed(part for p in which for part in self._parts(p, state))

    def value(self) -> Tensor:
        """See `RowWeights`."""
        still = (
            _Part(
                self._read(self.a, piece, rows), self._read(self.b, piece, rows)[None].to(self.like)
            )
            for piece in self.plan.fixed
            for rows in _cuts(piece)
        )
        moved = self.inner(range(len(self.plan.pieces)), self.found)
        return moved + _summed(still)

    def term(self, block: GroupBlock, others: tuple[str, ...], rows: Rows) -> Scores:
        """See `RowWeights`."""
        return total(
            gram(block, site, (part.a, part.b[rows]))
            for site in block.terms[others]
            for part in self._parts(site.piece, self.found)
        )

    def change(self, block: GroupBlock, others: tuple[str, ...], units: MovedUnits) -> Scores:
        """See `RowWeights`."""
        return total(
            gram(block, site, units.change(self.plan.pieces[site.piece], part))
            for site in block.terms[others]
            for part in self._parts(site.piece, self.found)
        )

    def blind(self, block: GroupBlock, solved: Collection[str], *, unsigned: bool) -> Scores:
        """See `RowWeights`."""
        return total(
            blind_gram(
                block,
                site,
                (part.a.abs(), part.b.abs()) if unsigned else part,
                unknown=unknown_axes(self.plan.pieces[site.piece], site, solved),
            )
            for site in block.sites
            for part in self._parts(site.piece, self.found)
        )

    def entries(self, sites: Iterable[Site]) -> int:
        """See `RowWeights`."""
        return sum(math.prod(self.plan.pieces[site.piece].shape) for site in sites)

    def noise(self, block: GroupBlock) -> Tensor:
        """See `RowWeights`."""
        return noise_of(block, self.mass, self.like)

    def take(self, block: GroupBlock, step: BlockStep) -> None:
        """See `RowWeights`."""
        self.found.take(block, step)

    def restore(self, rows: Tensor, state: FoundRows) -> None:
        """See `RowWeights`."""
        if bool(rows.any()):
            self.found = state.clone()

    def _parts(self, p: int, state: FoundRows) -> Iterator[_Part]:
        piece = self.plan.pieces[p]
        for rows in _cuts(piece):
            moved = self._read(self.b, piece, rows)[None]
            for block in self._acting[p]:
                moved = move_piece(piece, moved, block=block, step=_whole(block, state))
            yield _Part(self._read(self.a, piece, rows), moved.to(self.like))

    def _read(self, source: Source, piece: Piece, rows: slice) -> Tensor:
        """Part of a piece; two-byte types are moved faster as they are, so they stay."""
        tensor = _narrowed(source[piece.tensor], piece, rows)
        is_b = source is self.b
        return tensor if is_b and tensor.dtype.itemsize > 1 else tensor.to(self.like)

    def _seen(self, piece: Piece) -> _Seen:
        """What one pass over a piece tells; norms over parts are put together in float64."""
        parts = [self._seen_part(piece, rows) for rows in _cuts(piece)]
        product = sum((part.product for part in parts), torch.zeros(1, dtype=torch.float64))
        mine, other = (
            math.hypot(*(part.a for part in parts)),
            math.hypot(*(part.b for part in parts)),
        )
        return _Seen(mine, other, product)

    def _seen_part(self, piece: Piece, rows: slice) -> _Seen:
        a = self._read(self.a, piece, rows)
        b = self._read(self.b, piece, rows).to(self.like)
        norms = _norm(a, piece.tensor, "a"), _norm(b, piece.tensor, "b")
        return _Seen(*norms, products(a, b[None]))


def _precision(tensors: Iterable[TensorSlices]) -> torch.dtype:
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def _norm(part: Tensor, name: str, which: str) -> float:
    norm = float(part.norm())
    if not math.isfinite(norm):
        check_finite_part(part, name, which)
    return norm


def check_finite_part(tensor: Tensor, name: str, which: str) -> None:
    """Raise ValueError if values of a tensor, or of part of it, are NaN or infinite."""
    if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
        bad = int((~tensor.float().isfinite()).sum())
        raise ValueError(
            f"{name}: {bad} values in '{which}' are NaN or infinite; a diverged checkpoint cannot "
            "be matched"
        )


def _summed(parts: Iterable[_Part]) -> Tensor:
    return sum((products(a, b.to(a)) for a, b in parts), torch.zeros(1, dtype=torch.float64))


def _blocks_of(piece: Piece, plan: MatchingPlan) -> list[GroupBlock]:
    """The blocks that move a piece."""
    return [
        block
        for name, block in plan.blocks.items()
        if name in piece.atoms or any(family in piece.atoms for family, _ in block.families)
    ]


def _whole(block: GroupBlock, state: FoundRows) -> BlockStep:
    """The block's element found so far, as one step from where the file stands."""
    families = {name: state.indices[name] for name, _ in block.families}
    return BlockStep(ALL, state.indices[block.group], families, None, torch.zeros(1))


def _cuts(piece: Piece) -> list[slice]:
    """Ranges of the first atom: of `PART` entries if it is fixed, else all of it."""
    if not piece.shape or isinstance(piece.atoms[0], str):
        return [slice(None)]
    step = max(1, PART // max(1, math.prod(piece.shape[1:])))
    return [slice(i, min(i + step, piece.shape[0])) for i in range(0, piece.shape[0], step)]


def _narrowed(tensor: TensorSlices, piece: Piece, rows: slice) -> Tensor:
    """The piece, or the ``rows`` of its first atom; only these rows are read."""
    if not piece.window:
        return tensor[...]
    start, length = piece.window[0]
    first, stop, _ = rows.indices(piece.shape[0])
    inner = length // piece.shape[0]
    part = tensor[start + first * inner : start + stop * inner]
    for axis, (begin, size) in enumerate(piece.window[1:], 1):
        part = part.narrow(axis, begin, size)
    return part.reshape(stop - first, *piece.shape[1:])
