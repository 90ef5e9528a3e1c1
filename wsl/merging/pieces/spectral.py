"""Tensors as matrices, and the nearest orthogonal matrix.

    W (out, in, *kernel)  ->  (out, in * prod(kernel))           a convolution by its units
    polar(U) = U (U^T U)^{-1/2} = X Y^T     for the singular value decomposition U = X S Y^T

Public implementations of spectral merging take matrices only and average convolutions. Here a
kernel is a matrix whose rows belong to units unless ``conv="mean"`` is told. Decompositions run in
float64: the polar factor of nearly parallel vectors is ill-conditioned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Convolutions = Literal["matrix", "mean"]
"""A kernel as one matrix, or averaged as the reference implementations do."""


def as_matrix(tensors: Tensor) -> Tensor:
    """Stacked tensors (T, out, ...) as matrices (T, out, rest), float64."""
    return tensors.flatten(2).double()


def matrix_sum(matrices: Tensor) -> Tensor:
    """The sum of matrices (T, m, n) in float64, without a copy of all of them in it."""
    total = matrices[0].double()
    for matrix in matrices[1:]:
        total += matrix
    return total


def leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first singular vectors and values: (m, count), (count,) and (count, n), float64."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, :count].clone(), s[:count], vh[:count].clone()


def polar(columns: Tensor) -> Tensor:
    """The matrix with orthonormal columns (or rows, if it is wide) that is nearest to (m, k)."""
    u, _, vh = torch.linalg.svd(columns, full_matrices=False)
    return u @ vh


def spectral(
    tau: Tensor, rule: Callable[[Tensor], Tensor], *, conv: Convolutions = "matrix"
) -> Tensor:
    """``rule`` on the matrices (T, m, n) of task vectors; means of vectors and scalars.

    The matrices are in the type of the task vectors: a rule takes one at a time to float64.
    """
    if tau.dim() < 3 or (tau.dim() > 3 and conv == "mean"):
        return tau.mean(0)
    return rule(tau.flatten(2)).to(tau.dtype).view_as(tau[0])
