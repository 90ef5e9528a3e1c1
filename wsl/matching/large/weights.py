"""The weights of one problem where they lie: read piece by piece, moved as they are read.

    A_p += unfold(W_a[part]) unfold((g.W_b)[part])^T          part by part

What is held are scores and the element g found so far; a piece of b is read from its file and moved
by g whenever it is needed. Pieces whose first axis no group permutes are read in parts along it,
those of many experts one expert at a time; others whole. So an ascent runs in the memory of a few
of the largest tensors. Work is done in float32, whatever the files hold, and inner products are
summed in float64: what `CutWeights` does, with the same results to the bit where pieces are read
whole.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site
from wsl.matching.large.apart import apart_groups, apart_step
from wsl.matching.large.cuts import WHOLE, Cut, cuts, entry_axis, read_part
from wsl.matching.large.files import Source, TensorSlices
from wsl.matching.solvers import (
    ALL,
    BlockStep,
    FoundRows,
    MovedUnits,
    Rows,
    Scores,
    Stepping,
    blind_gram,
    gram,
    move_piece,
    noise_of,
    products,
    total,
    unknown_axes,
)
from wsl.symmetry import Piece

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
        self.apart: Mapping[str, Stepping] = {
            name: functools.partial(self._step, plan.blocks[name]) for name in apart_groups(plan)
        }
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
                self._read(self.a, piece, cut), self._read(self.b, piece, cut)[None].to(self.like)
            )
            for piece in self.plan.fixed
            for cut in cuts(piece)
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
        found = []
        for site in block.sites:
            unknown = unknown_axes(self.plan.pieces[site.piece], site, solved)
            for part in self._known_parts(site.piece, unknown):
                pair = (part.a.abs(), part.b.abs()) if unsigned else part
                found.append(blind_gram(block, site, pair, unknown=unknown))
        return total(found)

    def _step(self, block: GroupBlock, terms: Iterable[tuple[str, ...]]) -> BlockStep:
        return apart_step(block, [site for each in terms for site in block.terms[each]], self)

    def entry(self, site: Site, which: str, number: int | None) -> Tensor:
        """See `apart.EntryReader`."""
        piece = self.plan.pieces[site.piece]
        cut = WHOLE if number is None else Cut(axis=site.axis, number=number)
        if which == "a":
            return self._read(self.a, piece, cut)
        return self._moved(site.piece, cut, self.found)[0].to(self.like)

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
        for cut in cuts(piece, self.apart):
            moved = self._moved(p, cut, state)
            yield _Part(self._read(self.a, piece, cut), moved.to(self.like))

    def _known_parts(self, p: int, unknown: Collection[int]) -> Iterator[_Part]:
        """The parts of a piece, which is not cut along an axis that is unknown."""
        piece = self.plan.pieces[p]
        if entry_axis(piece, self.apart) not in unknown:
            yield from self._parts(p, self.found)
            return
        moved = self._moved(p, WHOLE, self.found)
        yield _Part(self._read(self.a, piece, WHOLE), moved.to(self.like))

    def _moved(self, p: int, cut: Cut, state: FoundRows) -> Tensor:
        """A part of a piece of b as it stands, a row (1, *shape)."""
        piece = self.plan.pieces[p]
        moved = self._read(self.b, piece, _origin(piece, cut, state))[None]
        for block in self._acting[p]:
            # The entry has been read from where it comes from.
            if cut.axis is None or block.group != piece.atoms[cut.axis]:
                moved = move_piece(piece, moved, block=block, step=_whole(block, state))
        return moved if cut.axis is None else _moved_inside(piece, moved, cut=cut, state=state)

    def _read(self, source: Source, piece: Piece, cut: Cut) -> Tensor:
        """Part of a piece; two-byte types are moved faster as they are, so they stay."""
        tensor = read_part(source[piece.tensor], piece, cut)
        is_b = source is self.b
        return tensor if is_b and tensor.dtype.itemsize > 1 else tensor.to(self.like)

    def _seen(self, piece: Piece) -> _Seen:
        """What one pass over a piece tells; norms over parts are put together in float64."""
        parts = [self._seen_part(piece, cut) for cut in cuts(piece, self.apart)]
        product = sum((part.product for part in parts), torch.zeros(1, dtype=torch.float64))
        mine, other = (
            math.hypot(*(part.a for part in parts)),
            math.hypot(*(part.b for part in parts)),
        )
        return _Seen(mine, other, product)

    def _seen_part(self, piece: Piece, cut: Cut) -> _Seen:
        a = self._read(self.a, piece, cut)
        b = self._read(self.b, piece, cut).to(self.like)
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


def _origin(piece: Piece, cut: Cut, state: FoundRows) -> Cut:
    """The cut of the file that a cut of the moved piece comes from."""
    if cut.axis is None:
        return cut
    index = state.indices[str(piece.atoms[cut.axis])]
    return cut._replace(number=int(index[0, cut.number]))


def _moved_inside(piece: Piece, moved: Tensor, *, cut: Cut, state: FoundRows) -> Tensor:
    """An entry of a group, a row (1, *shape), with the units inside it in order."""
    for axis, (atom, parent) in enumerate(zip(piece.atoms, piece.parents, strict=True), 1):
        if parent == cut.axis:
            moved = moved.index_select(axis, state.indices[str(atom)][0, cut.number])
    return moved
