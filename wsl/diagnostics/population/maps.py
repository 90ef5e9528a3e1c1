"""Maps of a population: every member a point in the plane.

    pca     x_i = (theta_i - mean) V,  V the two directions of largest variance
    tsne    neighbours in the space of the first 50 such directions stay neighbours

t-SNE: van der Maaten and Hinton (2008), as scikit-learn has it. Distances between far points of it
mean nothing, and another seed gives another map. Rows with NaN or infinite entries have no place
and are NaN.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

_EXACT = 2048
"""Up to so many rows or columns directions come from an eigendecomposition, beyond by sketching."""
_PERPLEXITY = 30


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationMap:
    """points: (N, 2) float32, NaN where a row has no place.

    shares: of each axis, the part of the whole variance that it shows; empty where that is no
    notion of the map.
    """

    points: Tensor
    shares: tuple[float, ...] = ()


def pca_map(rows: Tensor, *, seed: int = 0) -> PopulationMap:
    """The first two principal components of ``rows`` (N, P).

    Signs are chosen so that the point farthest out on an axis is on its positive side. Where both
    sides exceed 2,048, directions are found by a randomised range finder (Halko et al. 2011,
    arXiv 0909.4061) with ``seed``.
    """
    placed = rows.isfinite().all(1)
    points = torch.full((len(rows), 2), torch.nan)
    scores, shares = _components(rows[placed].float(), 2, seed)
    points[placed] = scores
    return PopulationMap(points, shares)


def tsne_map(rows: Tensor, *, seed: int = 0, most: int = 5000) -> PopulationMap:
    """t-SNE of ``rows`` (N, P); of more than ``most``, so many drawn at random have a place.

    Fewer than four rows have a place nowhere.
    """
    from sklearn.manifold import TSNE  # half a second, and only who asks for it needs it

    points = torch.full((len(rows), 2), torch.nan)
    placed = rows.isfinite().all(1).nonzero()[:, 0]
    drawn = torch.randperm(len(placed), generator=torch.Generator().manual_seed(seed))[:most]
    placed = placed[drawn.sort().values]
    if len(placed) < 4:
        return PopulationMap(points)
    scores, _ = _components(rows[placed].float(), 50, seed)
    perplexity = min(_PERPLEXITY, (len(placed) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scores.numpy())
    points[placed] = torch.from_numpy(found).float()
    return PopulationMap(points)


def _components(rows: Tensor, count: int, seed: int) -> tuple[Tensor, tuple[float, ...]]:
    """Scores (N, count) on the first principal components, and their shares of the variance.

    Where there are fewer components the others are zero.
    """
    centred = rows - rows.mean(0) if len(rows) else rows
    u, s = _left_vectors(centred, count, seed)
    kept = min(count, len(s))
    scores = torch.zeros(len(rows), count)
    scores[:, :kept] = u[:, :kept] * s[:kept]
    if len(rows):
        farthest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
        scores = scores * torch.where(farthest < 0, -1.0, 1.0)
    total = float(centred.double().square().sum())
    squares = [float(value) ** 2 for value in s[:count]] + [0.0] * (count - kept)
    return scores, tuple(square / total if total else 0.0 for square in squares)


def _left_vectors(centred: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Left singular vectors (N, k) and singular values (k,), largest first."""
    if min(centred.shape) > _EXACT:
        rng = torch.Generator().manual_seed(seed)
        basis = torch.randn(centred.shape[1], count + 10, generator=rng)
        for _ in range(6):
            basis = centred.mT @ torch.linalg.qr(centred @ basis).Q
        basis = torch.linalg.qr(basis).Q
        u, s, _ = torch.linalg.svd(centred @ basis, full_matrices=False)
        return u, s
    # the smaller Gram matrix, in float64: squaring costs half of the digits
    wide = centred.shape[0] <= centred.shape[1]
    values = centred.double()
    squares, vectors = torch.linalg.eigh(values @ values.mT if wide else values.mT @ values)
    s, vectors = squares.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
    positive = s > s[:1] * 1e-7
    s, vectors = s[positive], vectors[:, positive]
    u = vectors if wide else values @ vectors / s
    return u.float(), s.float()
