"""A group's units as rows: the pieces on which it acts once, unfolded to (copies, units, rest).

    S[i, j] = <x_i, y_j> / (|x_i| |y_j|),    x_i = all incoming and outgoing weights of unit i

of the one network, y_j of the other, each with the mean over units taken away, and every other axis
left as it stands. A piece on which the group acts twice (recurrent and tied weights) is left out:
there one unit's weights are named by the others, and relabelling would not only permute S. Of a
family each unit of its parent has a matrix S of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching import aligned_tensors
from wsl.params import BATCH_NORM_BUFFERS
from wsl.symmetry import PermutationSpec, Piece, pieces


class UnitSite(NamedTuple):
    """A piece on which a group acts once: the axis of its units, and for a family its parent's."""

    piece: Piece
    axis: int
    parent: int | None

    def rows(self, params: Mapping[str, Tensor]) -> Tensor:
        """The weights as (copies, units, rest), at least float32; one copy unless a family."""
        tensor = params[self.piece.tensor]
        wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        cut = self.piece.cut(params, tensor.new_empty(0, dtype=wide))
        if self.parent is None:
            front = cut.movedim(self.axis, 0)[None]
        else:
            front = cut.movedim((self.parent, self.axis), (0, 1))
        copies, units, *rest = front.shape
        return front.reshape(copies, units, math.prod(rest))


def weights_of(params: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The floating tensors that training learns: batch-norm statistics measure the data instead."""
    return aligned_tensors(params, BATCH_NORM_BUFFERS)


def unit_sites(spec: PermutationSpec, names: Iterable[str]) -> Mapping[str, tuple[UnitSite, ...]]:
    """The sites of every group on the tensors ``names``, in the order of the specification.

    A group has none where it acts twice on each of its pieces.
    """
    cut = pieces(spec, tuple(names))
    return {group: tuple(_sites(group, cut)) for group in spec.groups}


def _sites(group: str, cut: Iterable[Piece]) -> Iterable[UnitSite]:
    for piece in cut:
        axes = [axis for axis, atom in enumerate(piece.atoms) if atom == group]
        if len(axes) == 1:
            yield UnitSite(piece, axes[0], piece.parents[axes[0]])


def unit_scores(
    sites: Sequence[UnitSite],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    order: Tensor | None = None,
    theirs: Sequence[UnitSite] | None = None,
) -> Tensor:
    """Cosines of a's units with b's over all ``sites``, (copies, units, units).

    ``order`` (copies, units) takes b's units in another order first; ``theirs`` are the sites of
    b's units, where they are those of another group. A unit without weights has cosine 0 with all.
    """
    total, mine, other = None, torch.zeros(1), torch.zeros(1)
    for site, their in zip(sites, theirs or sites, strict=True):
        x, y = _centred(site.rows(a)), _centred(their.rows(b).to(a[site.piece.tensor].device))
        y = y if order is None else y.take_along_dim(order[..., None].to(y.device), 1)
        part = (x @ y.to(x).mT).cpu()
        total = part if total is None else total + part
        mine, other = mine + _squares(x), other + _squares(y)
    if total is None:
        raise ValueError("unit_scores: no sites given; at least one is needed")
    return _cosines(total, mine, other)


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(-1).cpu()


def _cosines(products: Tensor, mine: Tensor, other: Tensor) -> Tensor:
    """Products of units over the roots of their squared norms, 0 where either is zero."""
    size = mine.sqrt()[..., :, None] * other.sqrt()[..., None, :]
    return torch.where(size == 0, 0.0, products / size)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)
