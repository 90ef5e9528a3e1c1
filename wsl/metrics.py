"""Scores of predictions: rank correlation, explained variance, accuracy.

    tau_b = (C - D) / sqrt((n_0 - n_x) (n_0 - n_y))
    R^2   = 1 - sum (y - p)^2 / sum (y - mean y)^2

with C concordant and D discordant of n_0 = n (n - 1) / 2 pairs, n_x tied in x and n_y in y. Kendall
(1945), Biometrika 33; counted in O(n log^2 n) after Knight (1966), JASA 61. Everything is counted
in int64 or float64. A score that is not defined, for want of any variation, is NaN; predictions
that are NaN are an error and never a score.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kendall_tau(predicted: Tensor, true: Tensor) -> float:
    """Rank correlation tau-b of two (N,) tensors, in [-1, 1]; ties count as neither order.

    NaN if either is constant.
    """
    _check(predicted, true)
    x, y = (values.unique(return_inverse=True)[1] for values in (predicted, true))
    pairs, joint = len(x) * (len(x) - 1) // 2, _joint_ranks(x, y)
    untied_x, untied_y = pairs - _tied_pairs(x), pairs - _tied_pairs(y)
    # sorted by x, and within ties by y, the discordant pairs are the inversions of y
    discordant = _inversions(y[joint.argsort()])
    difference = untied_x + untied_y - pairs + _tied_pairs(joint) - 2 * discordant
    scale = math.sqrt(untied_x * untied_y)
    return difference / scale if scale else math.nan


def r2(predicted: Tensor, true: Tensor) -> float:
    """Coefficient of determination of two (N,) tensors, 1 at best; NaN if ``true`` is constant."""
    _check(predicted, true)
    predicted, true = predicted.double(), true.double()
    total = (true - true.mean()).square().sum()
    return float(1 - (true - predicted).square().sum() / total) if total > 0 else math.nan


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Fraction of ``labels`` (N,) that are predicted.

    ``predicted`` holds classes (N,) or scores of the classes (N, C).
    """
    if predicted.dim() == 2:
        _check(predicted.amax(1), labels)
        predicted = predicted.argmax(1)
    _check(predicted, labels)
    return float((predicted == labels).double().mean())


def _joint_ranks(x: Tensor, y: Tensor) -> Tensor:
    """One number for each pair of ranks, in their lexicographic order."""
    return x * (int(y.max()) + 1 if len(y) else 1) + y


def _tied_pairs(ranks: Tensor) -> int:
    counts = ranks.bincount()
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: Tensor) -> int:
    """Pairs i < j with ranks[i] > ranks[j].

    They are counted by the highest bit in which the two ranks differ.
    """
    total = 0
    for bit in range(int(ranks.max()).bit_length() if len(ranks) else 0):
        order = (ranks >> (bit + 1)).argsort(stable=True)
        group, ones = ranks[order] >> (bit + 1), (ranks[order] >> bit) & 1
        before = ones.cumsum(0) - ones
        start = torch.searchsorted(group, group)
        total += int(((before - before[start]) * (1 - ones)).sum())
    return total


def _check(predicted: Tensor, true: Tensor) -> None:
    if predicted.shape != true.shape or predicted.dim() != 1:
        raise ValueError(
            f"predicted has shape {tuple(predicted.shape)} and true {tuple(true.shape)}, but both "
            "must be (N,)"
        )
    for name, values in (("predicted", predicted), ("true", true)):
        if values.isnan().any():
            raise ValueError(
                f"{name}: {int(values.isnan().sum())} of {len(values)} values are NaN; remove or "
                "replace them first"
            )
