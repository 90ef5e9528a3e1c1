"""Rank of a difference: a low-rank fine-tune changes each matrix by a product of thin factors.

    rank = #{i : sigma_i(b - a) > eps (sqrt m + sqrt n) rms},    rms of the entries of a and b

The bound is what rounding of the entries to their type leaves in a difference, with a margin of
three: the largest singular value of an m x n matrix of independent errors is about their deviation
times (sqrt m + sqrt n). Matrices whose smaller side exceeds `EXACT` are looked at through a random
sketch of `SKETCH` columns (Halko, Martinsson, Tropp 2011, section 4.1, arXiv 0909.4061), which
counts every rank below that and says of others only that they are at least so large. Kernels are
read as matrices of (outputs, all others).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EXACT, SKETCH = 512, 128


class DifferenceRank(NamedTuple):
    """``rank`` of ``full``; ``at_least`` where the sketch was too small to count it."""

    rank: int
    full: int
    at_least: bool

    @property
    def is_low(self) -> bool:
        """Whether it changes something, by at most a quarter of the full rank."""
        return 0 < self.rank <= self.full // 4 and not self.at_least


@torch.no_grad()
def difference_rank(a: Tensor, b: Tensor) -> DifferenceRank:
    """Numerical rank of ``b - a`` for tensors of one shape with at least two axes."""
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(
            f"difference_rank: shapes {tuple(a.shape)} and {tuple(b.shape)} were given, but equal "
            "shapes of at least two axes are needed"
        )
    delta = b.double().flatten(1) - a.double().flatten(1)
    full = min(delta.shape)
    exact = full <= EXACT
    values = torch.linalg.svdvals(delta) if exact else _sketched(delta)
    rank = int((values > _rounding(a, b)).sum())
    return DifferenceRank(rank, full, not exact and rank >= SKETCH)


def _rounding(a: Tensor, b: Tensor) -> float:
    """The largest singular value that rounding alone may leave: eps (sqrt m + sqrt n) rms."""
    x, y = a.double().flatten(1), b.double().flatten(1)
    m, n = x.shape
    eps = max(torch.finfo(tensor.dtype).eps for tensor in (a, b))
    rms = max(float(matrix.square().mean().sqrt()) for matrix in (x, y))
    return eps * (m**0.5 + n**0.5) * rms


def _sketched(delta: Tensor) -> Tensor:
    """The largest singular values as seen in a random subspace of the columns."""
    rng = torch.Generator().manual_seed(0)
    omega = torch.randn(delta.shape[1], SKETCH, generator=rng, dtype=delta.dtype).to(delta.device)
    basis = torch.linalg.qr(delta @ omega).Q
    return torch.linalg.svdvals(basis.mT @ delta)
