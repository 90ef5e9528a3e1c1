"""RegMean: linear layers whose outputs are nearest to those of every member on its own inputs.

    W^T = (sum_t G_t)^{-1} sum_t G_t W_t^T,       G_t = X_t^T X_t

Jin et al. (2023), arXiv 2212.09849. X_t are the inputs of the layer in member t, of a convolution
its unfolded patches: see `wsl.merging.statistics.input_products`. Entries of G_t off the diagonal
are multiplied by ``alpha``, which the paper found to help; with 1 the answer is that of least
squares on the stacked inputs.

Limitations: layers are solved on the inputs that the members saw, not on those of the merged
network; see `wsl.connectivity.least_squares`. What has no products is averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, as_matrix, per_statistic
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class RegMean:
    """Statistics: for each weight (out, ...) the products (in, in) of its inputs.

    ridge: what is added to the diagonal, in shares of its mean, so that inputs that are always zero
    leave the mean of the members' weights.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"statistics"})
    measures: ClassVar[str] = "input_products"

    alpha: float = 0.9
    ridge: float = 1e-6

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for products of another size."""
        return per_statistic(members, statistics, self._regressed)

    def _regressed(self, tensors: Tensor, known: list[Any], name: str) -> Tensor:
        weights = as_matrix(tensors)
        size = weights.shape[2]
        if any(tuple(products.shape) != (size, size) for products in known):
            raise ValueError(
                f"{name}: products of shape {tuple(known[0].shape)} were given, but a weight "
                f"{tuple(tensors[0].shape)} has {size} inputs"
            )
        gram = torch.stack([products.to(weights) for products in known])
        diagonal = torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
        gram = self.alpha * gram + (1 - self.alpha) * diagonal
        mean = gram.diagonal(dim1=1, dim2=2).mean()
        gram = gram + self.ridge * mean.clamp(min=1e-30) * torch.eye(size).to(gram)
        solved = torch.linalg.solve(gram.sum(0), (gram @ weights.mT).sum(0)).mT
        return solved.to(tensors.dtype).reshape(tensors.shape[1:])
