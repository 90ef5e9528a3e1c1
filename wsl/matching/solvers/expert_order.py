"""The order of experts in a mixture, by their gates or by their Grams.

    C_ij = (|W_i - mean W - W'_j + mean W'|^2 + the same of biases)^(1/2)          gates, centred
    D_ij = (|A_i^T A_i - A'_j^T A'_j|^2 + |B_i B_i^T - B'_j B'_j^T|^2)^(1/2)       experts, by Grams

A softmax does not see what is added to all gates, nor does an expert see the order of its hidden
units: neither do C and D. <A^T A, A'^T A'> = |A A'^T|^2, so that nothing of the size of the stream
squared is built. Both costs: arXiv 2509.11348. They cost O(n^3), where `ExpertView` with
weight matching assigns the units of every pair of experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.solvers.assignment import assign


class ExpertOrder(NamedTuple):
    """``order[i]`` is the expert of b that stands for expert i of a; ``cost`` is the sum of C."""

    order: Tensor
    cost: float


def order_by_gates(a: Sequence[Tensor], b: Sequence[Tensor]) -> ExpertOrder:
    """The order of least cost C of gates: weights (n, d), and biases (n,) if there are any."""
    squares = [torch.cdist(_centred(x), _centred(y)).square() for x, y in zip(a, b, strict=True)]
    return _assigned(sum(squares[1:], squares[0]).sqrt())


def order_by_grams(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> ExpertOrder:
    """The order of least cost D of experts: inner weights (n, h, d) and outer ones (n, d, h).

    Append biases as one more column.
    """
    inner = _gram_distances(a[0].double(), b[0].double())
    outer = _gram_distances(a[1].double().mT, b[1].double().mT)
    return _assigned((inner + outer).sqrt())


def _centred(gates: Tensor) -> Tensor:
    rows = gates.double().reshape(len(gates), -1)
    return rows - rows.mean(0)


def _gram_distances(a: Tensor, b: Tensor) -> Tensor:
    """|A_i^T A_i - B_j^T B_j|^2 of matrices (n, h, d), without building a Gram of d x d."""
    products = torch.einsum("ihd,jkd->ijhk", a, b).square().sum((2, 3))
    norms = [(x @ x.mT).square().sum((1, 2)) for x in (a, b)]
    return (norms[0][:, None] + norms[1] - 2 * products).clamp_min(0)


def _assigned(costs: Tensor) -> ExpertOrder:
    order = assign(-costs)
    return ExpertOrder(order, float(costs.gather(1, order[:, None]).sum()))
