"""Intruder dimensions: leading directions of a fine-tuned matrix that its base does not have.

    y_j  is an intruder  <=>  max_i |<y_j, x_i>| < epsilon,      j = 1..k
    y_j: left singular vectors of the fine-tuned matrix by falling value; x_i: all those of the base

Shuttleworth, Andreas, Torralba, Sharma (2024), "LoRA vs full fine-tuning: an illusion of
equivalence", section 3, arXiv 2410.21228: low-rank adapters have them, full fine-tuning hardly, and
scaling them down undoes forgetting. Theirs: k = 10, epsilon = .5. Vectors whose value is
zero do not count. A base with tied singular values has no singular vectors of its own, and every
turn within a tie reads as an intruder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.diagnostics.spectra.values import matrices
from wsl.params import check_alike


@dataclasses.dataclass(frozen=True, eq=False)
class Intruders:
    """Of one matrix: ``likeness`` (k,) is max_i |<y_j, x_i>|, float64, for the leading k vectors.

    values: the singular values (k,) of those vectors in the fine-tuned matrix. k is smaller than
    asked where the rank is.
    """

    likeness: Tensor
    values: Tensor
    epsilon: float

    @property
    def found(self) -> tuple[int, ...]:
        """Which of the leading vectors are intruders, from 0 on."""
        return tuple((self.likeness < self.epsilon).nonzero()[:, 0].tolist())


@torch.no_grad()
def intruder_dimensions(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    *,
    leading: int = 10,
    epsilon: float = 0.5,
) -> dict[str, Intruders]:
    """The intruders among the leading singular vectors of every matrix of ``tuned``.

    Raises ValueError for networks that differ in names or shapes.
    """
    check_alike(base, tuned)
    if leading < 1 or not 0 < epsilon <= 1:
        raise ValueError(
            f"intruder_dimensions: leading is {leading} and epsilon {epsilon}; at least one vector "
            "and an epsilon above 0 and at most 1 are needed"
        )
    before, after = matrices(base), matrices(tuned)
    return {n: _of_matrix(before[n], after[n], leading=leading, epsilon=epsilon) for n in before}


def _of_matrix(before: Tensor, after: Tensor, *, leading: int, epsilon: float) -> Intruders:
    known, _ = _directions(before)
    found, values = _directions(after.to(before.device))
    pairs = (known.mH @ found[:, :leading]).abs()
    likeness = pairs.amax(0) if len(pairs) else pairs.new_zeros(pairs.shape[1])
    return Intruders(likeness.cpu(), values[:leading].cpu(), epsilon)


def _directions(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors whose values are above rounding; others are any basis of the rest."""
    u, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    kept = values > values[0] * max(matrix.shape) * torch.finfo(torch.float32).eps
    return u[:, kept], values[kept]
