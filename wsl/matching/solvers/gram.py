"""Scores of pairs of units at one site: the Gram matrix of what is unfolded along the group.

    A[a, a'] = sum_i unfold(W_a)[a, i] unfold(W_r)[a', i]

Where nothing that a site depends on is known yet, values along the unknown axes are sorted first:

    A[a, a'] = sum_i <sort W_a[a, i, :], sort W_r[a', i, :]>

That does not change when the unknown axes are permuted, and is never below what any permutation of
them reaches (the rearrangement inequality), so a planted permutation stays an optimum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from torch import Tensor

from wsl.matching.blocks import GroupBlock, Site, unfold
from wsl.matching.solvers.step import Scores
from wsl.symmetry import Piece


def gram(block: GroupBlock, site: Site, pair: tuple[Tensor, Tensor]) -> Scores:
    """Units of the reference's piece (*shape) against units of each row's (R, *shape), in
    ``pair``.
    """
    a, b = pair
    if not site.families:
        return {block.group: _against(unfold(a[None], (site.axis,)), unfold(b, (site.axis,)))}
    return total(
        {name: _against(unfold(a[None], (site.axis, axis)), unfold(b, (site.axis, axis)))}
        for name, axis in site.families
    )


def blind_gram(
    block: GroupBlock, site: Site, pair: tuple[Tensor, Tensor], *, unknown: Collection[int]
) -> Scores:
    """The same for ``pair``, the piece and its rows, where the order along ``unknown`` axes of the
    piece says nothing.
    """
    a, b = (_sorted(tensor, site.axis, unknown) for tensor in (pair[0][None], pair[1]))
    return {block.group: _against(a, b)}


def unknown_axes(piece: Piece, site: Site, solved: Collection[str | int]) -> tuple[int, ...]:
    """The axes of a site's piece on which groups act that are not solved, the site's own apart."""
    return tuple(
        axis
        for axis, atom in enumerate(piece.atoms)
        if axis != site.axis and isinstance(atom, str) and atom not in solved
    )


def total(terms: Iterable[Scores]) -> Scores:
    """The sum of scores, matrix by matrix."""
    result: Scores = {}
    for term in terms:
        for name, matrix in term.items():
            result[name] = result[name] + matrix if name in result else matrix
    return result


def _sorted(tensor: Tensor, axis: int, unknown: Collection[int]) -> Tensor:
    """Rows (R, *shape) as matrices (R, n, c), with the values along ``unknown`` axes in order."""
    known = [k for k in range(tensor.dim() - 1) if k != axis and k not in unknown]
    order = [axis, *known, *unknown]
    length = math.prod(tensor.shape[k + 1] for k in unknown)
    front = tensor.permute(0, *(k + 1 for k in order))
    values = front.reshape(len(tensor), tensor.shape[axis + 1], -1, length)
    return values.sort(-1).values.flatten(2)


def _against(a: Tensor, b: Tensor) -> Tensor:
    # One row is one plain product; many are one tall product, since a has no rows.
    return (a[0] @ b[0].T)[None] if len(b) == 1 else a[0] @ b.mT
