"""Isotropic merging: the sum of task vectors with all singular values made equal.

    Iso-C      sum_t tau_t = U S V^T;     theta = theta_0 + lambda mean(S) U V^T
    Iso-CTS    the same for the top share of sum_t tau_t together with the leading directions of
               each task in what is left: (I - U_c U_c^T) tau_t

Marczak et al. (2025), arXiv 2502.04959. The sum of the singular values stays what it was.

Limitations: ``scale`` is found on validation data in the paper (1.0 to 1.6 in its tables). Zero
directions of a sum that lacks full rank are raised to the mean as well, as in the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Convolutions,
    Members,
    Statistics,
    from_base,
    leading,
    matrix_sum,
    polar,
    spectral,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class IsoC:
    """The sum of the task vectors with all singular values brought to their mean.

    ``scale`` is lambda; ``conv`` says whether kernels are matrices or averaged.

    >>> import torch
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.diag(torch.tensor([3.0, 1.0]))}
    >>> IsoC().solve([a], base=base)["w"].round(decimals=4).abs().tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"
    doubles: ClassVar[int] = 4

    scale: float = 1.0
    conv: Convolutions = "matrix"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; tensors that are no matrices get the mean of their task vectors."""

        def merged(tau: Tensor, name: str) -> Tensor:
            return self.scale * spectral(tau, isotropic, conv=self.conv)

        return from_base(members, base, merged)


@dataclasses.dataclass(frozen=True)
class IsoCTS:
    """``common`` is the share of directions that the sum gives; the rest is shared by the tasks."""

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"
    doubles: ClassVar[int] = 10

    scale: float = 1.0
    common: float = 0.8
    conv: Convolutions = "matrix"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for a share outside [0, 1]."""
        if not 0 <= self.common <= 1:
            raise ValueError(f"IsoCTS: common must lie in [0, 1], got {self.common}")

        def merged(tau: Tensor, name: str) -> Tensor:
            return self.scale * spectral(tau, self._isotropic, conv=self.conv)

        return from_base(members, base, merged)

    def _isotropic(self, matrices: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(matrix_sum(matrices), full_matrices=False)
        full = len(s)
        # A small matrix cannot give every task a direction of its own: the sum takes what is left.
        each = (full - round(self.common * full)) // len(matrices)
        top = full - each * len(matrices)
        if not each:
            return s.mean() * u @ vh
        found = [(u[:, :top].clone(), s[:top], vh[:top].clone())]
        del u, vh
        for matrix in matrices:  # one after the other: each is held in float64, and its vectors
            wide, shared = matrix.double(), found[0][0]
            found.append(leading(wide - shared @ (shared.mT @ wide), each))
        parts = list(zip(*found, strict=True))
        left, values, right = torch.cat(parts[0], 1), torch.cat(parts[1]), torch.cat(parts[2])
        return values.mean() * polar(left) @ polar(right)


def isotropic(matrices: Tensor) -> Tensor:
    """The sum of matrices (T, m, n) with equal singular values."""
    u, s, vh = torch.linalg.svd(matrix_sum(matrices), full_matrices=False)
    return s.mean() * u @ vh
