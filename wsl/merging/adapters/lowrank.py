"""`LowRank`: a change of one weight as a product of two thin matrices, with exact algebra.

    dW = s B A,     B (m, r), A (r, n)
    sum         B = [w_1 s_1 B_1 ... w_T s_T B_T],  A = [A_1; ...; A_T]
    inner       <dW_1, dW_2> = s_1 s_2 tr((A_2 A_1^T) (B_1^T B_2))
    compress    B = Q_B R_B, A^T = Q_A R_A, R_B R_A^T = U S V^T; keep k, the rest of S is lost
    canonical   u = Q_B U, v = Q_A V, and the entry of largest modulus of each u positive

No (m, n) matrix is formed but by `dense`: costs are O((m + n) r^2 + r^3). Factors are unique up to
(B R, R^{-1} A) with R in GL(r); the canonical form is one of each such class, if no two singular
values are equal (else a rotation among them is left).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class LowRank:
    """The change ``scale`` B A of a weight of ``shape`` (m, ...), n being the product of the rest.

    Raises ValueError for factors that do not fit each other or the shape.
    """

    b: Tensor
    a: Tensor
    scale: float
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        rest = math.prod(self.shape[1:])
        fits = self.b.dim() == self.a.dim() == 2 and self.b.shape[1] == self.a.shape[0]
        if not fits or (self.b.shape[0], self.a.shape[1]) != (self.shape[0], rest):
            raise ValueError(
                f"factors {tuple(self.b.shape)} and {tuple(self.a.shape)} are no change of a "
                f"weight of shape {self.shape}; (m, r) and (r, n) are needed"
            )

    @property
    def rank(self) -> int:
        """The width r of the factors, which bounds the rank of the change."""
        return self.a.shape[0]

    def dense(self) -> Tensor:
        """The change itself, of ``shape``, in float32 or wider."""
        b, a = wide(self.b), wide(self.a)
        return (self.scale * (b @ a)).view(self.shape)

    def __mul__(self, factor: float) -> LowRank:
        """The change times a number, of any sign."""
        return dataclasses.replace(self, scale=self.scale * float(factor))

    __rmul__ = __mul__

    def __add__(self, other: LowRank) -> LowRank:
        """The exact sum, whose rank is the sum of ranks."""
        return total([self, other])

    def inner(self, other: LowRank) -> float:
        """<dW, dW'>, the sum of products of entries, in float64."""
        _check_shapes([self, other])
        a = other.a.double() @ self.a.double().mT
        b = self.b.double().mT @ other.b.double()
        return self.scale * other.scale * float((a * b.mT).sum())

    def norm(self) -> float:
        """The Frobenius norm."""
        return math.sqrt(max(self.inner(self), 0.0))

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """u (m, k), singular values (k,) and v (n, k) of the change, float64, k = min(m, n, r)."""
        q_b, r_b = torch.linalg.qr(self.b.double())
        q_a, r_a = torch.linalg.qr(self.a.double().mT)
        u, s, vh = torch.linalg.svd(self.scale * (r_b @ r_a.mT), full_matrices=False)
        return q_b @ u, s, q_a @ vh.mT

    def compress(self, rank: int) -> tuple[LowRank, float]:
        """The nearest change of ``rank``, and the Frobenius norm of what is lost.

        Raises ValueError for a rank below one.
        """
        if rank < 1:
            raise ValueError(f"compress: rank is {rank}, but at least one is needed")
        u, s, v = self.svd()
        kept = min(rank, len(s))
        root = s[:kept].sqrt()
        b, a = u[:, :kept] * root, (v[:, :kept] * root).mT
        lost = float(s[kept:].square().sum().sqrt())
        return LowRank(b.to(wide(self.b)), a.to(wide(self.a)), 1.0, self.shape), lost

    def canonical(self) -> tuple[Tensor, Tensor, Tensor]:
        """u, singular values and v, with the largest entry of each column of u positive."""
        u, s, v = self.svd()
        largest = u.gather(0, u.abs().argmax(0, keepdim=True))
        signs = torch.where(largest < 0, -1.0, 1.0).to(u)
        return u * signs, s, v * signs


def total(changes: Sequence[LowRank], weights: Sequence[float] | None = None) -> LowRank:
    """The exact weighted sum of changes of one weight; one unless told.

    Raises ValueError for no changes and for shapes that differ.
    """
    _check_shapes(changes)
    told = [1.0] * len(changes) if weights is None else weights
    if len(changes) == 1:
        return changes[0] * told[0]
    pairs = list(zip(changes, told, strict=True))
    b = torch.cat([wide(c.b) * (w * c.scale) for c, w in pairs], 1)
    return LowRank(b, torch.cat([wide(c.a) for c in changes]), 1.0, changes[0].shape)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is so already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_shapes(changes: Sequence[LowRank]) -> None:
    if not changes:
        raise ValueError("no changes were given; at least one is needed")
    for other in changes[1:]:
        if other.shape != changes[0].shape:
            raise ValueError(
                f"changes of weights of shapes {changes[0].shape} and {other.shape} cannot be "
                "combined"
            )
