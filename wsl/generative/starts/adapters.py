"""Where the factors of a low-rank adapter begin: W x + B A x, with A (r, in) and B (out, r).

    LoRA    A ~ U(-1, 1) / sqrt(in),       B = 0
    PiSSA   A = S_r^1/2 V_r^T,             B = U_r S_r^1/2,      W <- W - B A,      W = U S V^T
    EVA     A = V_r^T of the inputs,       B = 0,                X = U S V^T

Hu et al. (2022), arXiv 2106.09685, whose A is the Kaiming-uniform one of its code; Meng et al.
(2024), arXiv 2404.02948; Paischer et al. (2024), arXiv 2410.07170. EVA also gives more rank to the
layers whose inputs need it: `eva_ranks`.

Guarantees: with its base the adapted layer computes what W did, for all three; A of EVA has
orthonormal rows that explain the most variance of the inputs. Scales such as alpha / r are the
caller's: divide B by them. Not here: the quantised base of PiSSA, and inputs too many for memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class LowRankStart(NamedTuple):
    """Factors a (r, in) and b (out, r), and the weight (out, in) that they are added to."""

    a: Tensor
    b: Tensor
    base: Tensor


def lora(weight: Tensor, rank: int, *, generator: torch.Generator | None = None) -> LowRankStart:
    """Random a and zero b; raises ValueError for a rank that the matrix does not have."""
    _check_rank(weight, rank)
    uniform = torch.rand(rank, weight.shape[1], generator=generator, dtype=torch.float64)
    a = (2 * uniform - 1) / weight.shape[1] ** 0.5
    return LowRankStart(a.to(weight), weight.new_zeros(len(weight), rank), weight.clone())


def pissa(weight: Tensor, rank: int) -> LowRankStart:
    """The principal singular directions of the weight, taken out of its base."""
    _check_rank(weight, rank)
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    root = s[:rank].sqrt()
    a, b = root[:, None] * v[:rank], u[:, :rank] * root
    return LowRankStart(a.to(weight), b.to(weight), (weight.double() - b @ a).to(weight))


def eva(weight: Tensor, inputs: Tensor, rank: int) -> LowRankStart:
    """The principal directions of the layer's inputs (M, in), not centred, as the paper has it."""
    _check_rank(weight, rank)
    if inputs.dim() != 2 or inputs.shape[1] != weight.shape[1] or len(inputs) < rank:
        raise ValueError(
            f"eva: inputs of shape {tuple(inputs.shape)}, but at least {rank} rows of "
            f"{weight.shape[1]} are needed"
        )
    _, _, v = torch.linalg.svd(inputs.double(), full_matrices=False)
    return LowRankStart(v[:rank].to(weight), weight.new_zeros(len(weight), rank), weight.clone())


def eva_ranks(
    inputs: Mapping[str, Tensor], rank: int, *, most: int | None = None
) -> dict[str, int]:
    """A rank for each layer, ``rank`` on average: the directions that explain most of all layers.

    inputs: what each layer reads, (M, in). A direction counts by the share of its layer's variance,
    sigma^2 / sum sigma^2 (Paischer et al., section 3); ``most`` is the largest rank of a layer,
    twice ``rank`` unless told, as in the paper.
    """
    limit = 2 * rank if most is None else most
    shares = []
    for name, x in inputs.items():
        energy = torch.linalg.svdvals(x.double()).square()
        shares += [(float(e), name) for e in (energy / energy.sum())[:limit]]
    best = sorted(shares, key=lambda pair: -pair[0])[: rank * len(inputs)]
    return {name: sum(name == other for _, other in best) for name in inputs}


def _check_rank(weight: Tensor, rank: int) -> None:
    if weight.dim() != 2 or not 0 < rank <= min(weight.shape):
        raise ValueError(
            f"rank is {rank}, but a weight of shape {tuple(weight.shape)} needs a matrix and a "
            "rank from 1 to its smaller side"
        )
