"""Singular values of two networks beside each other, and how far their singular vectors agree.

    R(gamma) = sum_l <O_a^l, O_b^l> / sum_l sqrt(k_a^l k_b^l),      O = U_k V_k^T

U_k and V_k hold the singular vectors whose value is above gamma, relative to the layer's largest;
k is their number. Ito, Yamada, Kumagai (2025), section 4.2, arXiv 2402.04051, write a double sum
over pairs of singular vectors, which is this product of truncated polar factors: one decomposition
for each layer. By Cauchy and Schwarz |R| is at most 1, and 1 for equal networks; without matching
it is near 0. Networks whose units were permuted alike have the same R. Theirs leaves open whether
gamma is relative: here it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.connectivity.diagnostics.weights import matrices
from wsl.params import check_alike


@dataclasses.dataclass(frozen=True, eq=False)
class SingularSpectra:
    """The singular values of each matrix of two networks, from the largest on, float64."""

    names: tuple[str, ...]
    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SingularAlignment:
    """R at every ``gamma`` (points,), and of each layer by itself (points, layers), float64.

    NaN where a layer has no singular value above.
    """

    names: tuple[str, ...]
    gamma: Tensor
    r: Tensor
    layers: Tensor


def singular_spectra(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> SingularSpectra:
    """The singular values of all matrices of ``a`` and ``b``, convolutions flattened."""
    check_alike(a, b)
    mine, theirs = matrices(a), matrices(b)
    values = [tuple(map(torch.linalg.svdvals, each.values())) for each in (mine, theirs)]
    return SingularSpectra(tuple(mine), *values)


def singular_alignment(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    gamma: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
) -> SingularAlignment:
    """R of ``a`` and ``b``, which was moved before if it is to be compared after matching.

    Raises ValueError unless 0 <= gamma < 1.
    """
    check_alike(a, b)
    _check(gamma)
    mine, theirs = matrices(a), matrices(b)
    found = torch.stack([_of_layer(mine[n], theirs[n], gamma) for n in mine], 1)
    agreement, most = found.unbind(-1)
    each = agreement / torch.where(most > 0, most, float("nan"))
    thresholds = torch.tensor(gamma, dtype=torch.float64)
    return SingularAlignment(tuple(mine), thresholds, agreement.sum(1) / most.sum(1), each)


def _check(gamma: Sequence[float]) -> None:
    if not all(0 <= each < 1 for each in gamma):
        raise ValueError(f"singular_alignment: gamma is {list(gamma)}; from 0 on and below 1")


def _of_layer(a: Tensor, b: Tensor, gamma: Sequence[float]) -> Tensor:
    """<O_a, O_b> and the most that it can be, for every gamma: (points, 2)."""
    (u, s, vt), (x, t, yt) = (torch.linalg.svd(each, full_matrices=False) for each in (a, b))
    # <U V^T, X Y^T> = sum over pairs of (u_i . x_j)(v_i . y_j)
    pairs = (u.mT @ x) * (vt @ yt.mT)
    return torch.stack([_sums(pairs, _above(s, each), _above(t, each)) for each in gamma])


def _sums(pairs: Tensor, kept: Tensor, others: Tensor) -> Tensor:
    """The products of all pairs of vectors that count, and the most that they can sum to."""
    both = pairs[kept][:, others].sum()
    return torch.stack([both, (kept.sum() * others.sum()).double().sqrt()]).cpu()


def _above(values: Tensor, gamma: float) -> Tensor:
    """Which singular values count; what is zero to rounding never does."""
    rounding = len(values) * torch.finfo(torch.float32).eps
    return values > max(gamma, rounding) * values.max() if len(values) else values > 0
