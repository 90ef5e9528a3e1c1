"""How much of a layer its data use: the rank of the weight as far as inputs and outputs reach.

    S = leading eigenvectors of E[x x^T],   T = leading eigenvectors of E[y y^T],   y = W x
    utilised rank  r = min(dim S, dim T),   utilisation  r / min(out, in)
    W' = P_T W P_S  computes the same up to ``error`` = sqrt(E|W x - W' x|^2 / E|W x|^2)

A weight of full rank may be used on a few directions only. Garg, Koguchi, Verma, Ulbricht (2024),
"Revealing the utilized rank of subspaces of learning in neural networks", arXiv 2407.04797. The
dimensions are the fewest that hold a share of the energy, which is an argument; means are not
taken off, since a layer sees them too. No product is larger than (in, in): inputs are summed, not
kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.diagnostics.spectra.inputs import InputBatches, rows, watched, weight_of
from wsl.diagnostics.spectra.values import energy_rank


@dataclasses.dataclass(frozen=True)
class UtilisedRank:
    """Of one layer: dimensions that inputs and outputs span, the full rank, the error of W'."""

    inputs: int
    outputs: int
    full: int
    error: float

    @property
    def rank(self) -> int:
        """The smaller of both dimensions."""
        return min(self.inputs, self.outputs)

    @property
    def utilisation(self) -> float:
        """The share of the full rank."""
        return self.rank / self.full


@torch.no_grad()
def utilised_ranks(
    model: nn.Module,
    params: Mapping[str, Tensor],
    batches: InputBatches,
    *,
    energy: float = 0.99,
) -> dict[str, UtilisedRank]:
    """The utilised rank of every layer on some inputs, by the names of the modules.

    Raises ValueError without inputs, and unless 0 < energy <= 1.
    """
    products: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}

    def add(name: str, layer: nn.Module, value: Tensor) -> None:
        x = rows(layer, value).double()
        products[name] = products.get(name, 0) + x.mT @ x
        weights[name] = weight_of(layer)

    watched(model, params, batches, visit=add)
    return {name: utilised_rank(weights[name], products[name], energy=energy) for name in weights}


@torch.no_grad()
def utilised_rank(weight: Tensor, products: Tensor, *, energy: float = 0.99) -> UtilisedRank:
    """Of one weight (out, in), for inputs whose sum of x x^T is ``products`` (in, in)."""
    w, xx = weight.double(), products.double()
    yy = w @ xx @ w.mT
    read, written = _leading(xx, energy), _leading(yy, energy)
    projected = (written @ (written.mT @ w @ read)) @ read.mT
    lost, size = w - projected, float(yy.trace())
    error = max(0.0, float((lost @ xx @ lost.mT).trace()) / size) ** 0.5 if size > 0 else 0.0
    return UtilisedRank(read.shape[1], written.shape[1], min(w.shape), error)


def _leading(moments: Tensor, energy: float) -> Tensor:
    """The fewest eigenvectors (n, k) that hold a share of the energy."""
    values, vectors = torch.linalg.eigh(moments)
    count = energy_rank(values.flip(0).clamp(min=0), energy)
    return vectors.flip(1)[:, :count]
