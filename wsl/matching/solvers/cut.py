"""The weights of one problem, cut into pieces: a reference, and the rows as moved so far.

Work is done on the device of the reference, in the precision of its weights, at least float32.
Inner products are summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site, cut_rows
from wsl.matching.solvers.gram import blind_gram, gram, total, unknown_axes
from wsl.matching.solvers.step import (
    BlockStep,
    MovedUnits,
    Rows,
    Scores,
    choose,
    move_piece,
    put,
)

Moved = Sequence[Tensor] | Mapping[int, Tensor]
"""Pieces of some rows, by their number in the plan."""

Stepping = Callable[[Iterable[tuple[str, ...]]], BlockStep]
"""Gives the step of all rows that some terms of a block ask for, with what it gains in them."""

_CACHED = 2**16
"""Numbers that are multiplied at a time: a megabyte in float64."""


class RowWeights(Protocol):
    """What an ascent asks of weights, wherever they lie: in memory (`CutWeights`) or in files.

    count: rows. size: |a| of each piece; mass: |a| |b_r|, float64 (N,). most_kept: entries of
    scores that may be kept in memory. apart: groups that have too many scores, and what steps they
    propose instead. A state is what `inner` compares; it never changes.
    """

    count: int
    size: list[float]
    mass: list[Tensor]
    most_kept: float
    apart: Mapping[str, Stepping]

    def state(self) -> Any:
        """Where the rows stand now."""
        ...

    def after(self, block: GroupBlock, step: BlockStep) -> Any:
        """Where the rows of the step would stand after it, at least in the block's pieces."""
        ...

    def inner(self, which: Iterable[int], state: Any) -> Tensor:
        """<W_a, W_r> over some pieces that groups act on, float64, for the rows of a state."""
        ...

    def value(self) -> Tensor:
        """<W_a, W_r> over all pieces, those that no group acts on included, float64 (N,)."""
        ...

    def term(self, block: GroupBlock, others: tuple[str, ...], rows: Rows) -> Scores:
        """The scores of a block's units at the sites that depend on ``others``."""
        ...

    def blind(self, block: GroupBlock, solved: Collection[str], *, unsigned: bool) -> Scores:
        """Scores at all sites of the block that do not see the order along unsolved axes.

        ``unsigned`` compares absolute values, where signs are unknown too.
        """
        ...

    def change(self, block: GroupBlock, others: tuple[str, ...], units: MovedUnits) -> Scores:
        """How these scores change if some units of one of ``others`` move.

        To be asked before they do; they belong to a group that acts once on each piece.
        """
        ...

    def entries(self, sites: Iterable[Site]) -> int:
        """How many numbers the scores at these sites are computed from."""
        ...

    def noise(self, block: GroupBlock) -> Tensor:
        """How much rounding may feign as a gain of the block, float64 (N,)."""
        ...

    def take(self, block: GroupBlock, step: BlockStep) -> None:
        """Make the step."""
        ...

    def restore(self, rows: Tensor, state: Any) -> None:
        """Put the marked rows back to a state."""
        ...


class CutWeights:
    """Pieces ``a`` (*shape) and ``b`` (N, *shape), in memory."""

    most_kept: float = float("inf")
    apart: Mapping[str, Stepping] = MappingProxyType({})

    def __init__(
        self, plan: MatchingPlan, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
    ) -> None:
        self.plan, self.inputs, self.count = plan, (a, b), len(next(iter(b.values())))
        cut = plan.pieces
        self.like = like = like_of([a[piece.tensor] for piece in cut])
        self.a, self.b = [p.cut(a, like) for p in cut], [cut_rows(p, b, like) for p in cut]
        self.size = [float(x.norm()) for x in self.a]
        self.mass = [x * _norms(rows) for x, rows in zip(self.size, self.b, strict=True)]

    def state(self) -> Sequence[Tensor]:
        """The pieces as moved so far; they are replaced, never written to."""
        return self.b.copy()

    def value(self) -> Tensor:
        """See `RowWeights`."""
        a, b = self.inputs
        result = self.inner(range(len(self.b)), self.b).expand(self.count)
        for piece in self.plan.fixed:
            result = result + products(piece.cut(a, self.like), cut_rows(piece, b, self.like))
        return result

    def inner(self, which: Iterable[int], state: Moved) -> Tensor:
        """See `RowWeights`."""
        result = torch.zeros(1, dtype=torch.float64)
        for p in which:
            result = result + products(self.a[p], state[p])
        return result

    def term(self, block: GroupBlock, others: tuple[str, ...], rows: Rows) -> Scores:
        """See `RowWeights`."""
        return total(
            gram(block, site, (self.a[site.piece], self.b[site.piece][rows]))
            for site in block.terms[others]
        )

    def change(self, block: GroupBlock, others: tuple[str, ...], units: MovedUnits) -> Scores:
        """See `RowWeights`."""
        return total(
            gram(block, site, units.change(self.plan.pieces[p], (self.a[p], self.b[p])))
            for site in block.terms[others]
            for p in [site.piece]
        )

    def blind(self, block: GroupBlock, solved: Collection[str], *, unsigned: bool) -> Scores:
        """See `RowWeights`."""
        return total(self._blind(block, site, solved, unsigned=unsigned) for site in block.sites)

    def _blind(
        self, block: GroupBlock, site: Site, solved: Collection[str], *, unsigned: bool
    ) -> Scores:
        pair = self.a[site.piece], self.b[site.piece]
        pair = (pair[0].abs(), pair[1].abs()) if unsigned else pair
        unknown = unknown_axes(self.plan.pieces[site.piece], site, solved)
        return blind_gram(block, site, pair, unknown=unknown)

    def entries(self, sites: Iterable[Site]) -> int:
        """See `RowWeights`."""
        return self.count * sum(self.a[site.piece].numel() for site in sites)

    def noise(self, block: GroupBlock) -> Tensor:
        """See `RowWeights`."""
        return noise_of(block, self.mass, self.like)

    def after(self, block: GroupBlock, step: BlockStep) -> dict[int, Tensor]:
        """The pieces of the block in the rows of the step, after it."""
        return {
            p: move_piece(self.plan.pieces[p], self.b[p][step.rows], block=block, step=step)
            for p in block.pieces
        }

    def take(self, block: GroupBlock, step: BlockStep) -> None:
        """Make the step; tensors that stood before stay as they were."""
        for p, moved in self.after(block, step).items():
            self.b[p] = put(self.b[p], step.rows, moved)

    def restore(self, rows: Tensor, state: Sequence[Tensor]) -> None:
        """See `RowWeights`."""
        self.b = [choose(rows, old, new) for old, new in zip(state, self.b, strict=True)]


def products(a: Tensor, b: Tensor) -> Tensor:
    """<a, b_r> of a (*shape) and rows b (R, *shape), summed in float64, (R,).

    One row is multiplied in float64 too, in portions that stay in the processor's cache: several
    times faster than a product of all of it. So are rows that are large.
    """
    large = a.numel() >= _CACHED and a.device.type == "cpu"
    if len(b) > 1 and not large:
        return (a * b)[..., None].flatten(1).sum(1, dtype=torch.float64).cpu()
    size = _CACHED if large else max(1, a.numel())
    each = [_product(a, row, size) for row in (b if len(b) > 1 else [b])]
    return torch.tensor(each, dtype=torch.float64)


def _product(a: Tensor, b: Tensor, size: int) -> float:
    """<a, b> in float64, ``size`` entries at a time."""
    pairs = zip(a.reshape(-1).split(size), b.reshape(-1).split(size), strict=True)
    return math.fsum(float(torch.dot(x.double(), y.double())) for x, y in pairs)


def _norms(rows: Tensor) -> Tensor:
    """|b_r| of rows (N, *shape), float64 (N,)."""
    return rows.reshape(len(rows), -1).norm(dim=1).double().cpu()


def noise_of(block: GroupBlock, mass: Sequence[Tensor], like: Tensor) -> Tensor:
    """How much rounding in the precision of ``like`` may feign as a gain, float64 (N,)."""
    of_block = torch.stack([mass[p] for p in block.pieces])
    return 4 * torch.finfo(like.dtype).eps * of_block.double().sum(0)


def like_of(used: Sequence[Tensor]) -> Tensor:
    """An empty tensor where work on these is done: on their device, in at least float32."""
    like = torch.empty(0, dtype=torch.float32, device=used[0].device if used else None)
    return like.double() if any(tensor.dtype == torch.float64 for tensor in used) else like
