"""Means and deviations of units over batches and positions, in float64.

Either of values that were computed on inputs, or of a `Uncertain`: what is known of a value without
any. Both are measured by `moments` and changed by `changed`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_ROUNDING = 1e-6
"""A deviation this small beside the unit's own size is rounding: the unit does not vary."""


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertain:
    """What is known of a value that was not computed: mean and variance of each entry, float64."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def standard(cls, shape: Sequence[int]) -> Uncertain:
        """Mean 0 and variance 1 everywhere."""
        mean = torch.zeros(tuple(shape), dtype=torch.float64)
        return cls(mean, torch.ones_like(mean))


class Moments(NamedTuple):
    """Mean and standard deviation of each unit, both (units,), over all that was measured."""

    mean: Tensor
    std: Tensor

    @property
    def dead(self) -> Tensor:
        """Units that do not vary on the data."""
        return self.std <= _ROUNDING * self.mean.abs()


def moments(values: Sequence[Tensor | Uncertain], axis: int) -> Moments:
    """The moments of the units along ``axis`` of values that differ in nothing but the batch.

    With N in the denominator; of a mean and then the squares around it, so never negative.
    """
    if isinstance(values[0], Uncertain):
        return _pooled(values[0], axis)
    return _measured([value for value in values if isinstance(value, Tensor)], axis)


def _pooled(value: Uncertain, axis: int) -> Moments:
    """Of entries of unlike means: the mean of variances, and the variance of means."""
    means, variances = rows(value.mean, axis), rows(value.variance, axis)
    variance = variances.mean(0) + means.var(0, correction=0)
    return Moments(means.mean(0), variance.sqrt())


def _measured(values: Sequence[Tensor], axis: int) -> Moments:
    count = sum(value.numel() // value.shape[axis] for value in values)
    mean = sum(rows(value, axis).sum(0) for value in values) / count
    squares = sum((rows(value, axis) - mean).square().sum(0) for value in values)
    return Moments(torch.as_tensor(mean), torch.as_tensor(squares / count).sqrt())


def covariance(a: Sequence[Tensor], b: Sequence[Tensor], axis: int) -> Tensor:
    """Covariance (units,) of each unit of ``a`` with the same unit of ``b``."""
    first, second = moments(a, axis).mean, moments(b, axis).mean
    count = sum(value.numel() // value.shape[axis] for value in a)
    products = (
        ((rows(x, axis) - first) * (rows(y, axis) - second)).sum(0)
        for x, y in zip(a, b, strict=True)
    )
    return torch.as_tensor(sum(products) / count)


def rows(value: Tensor, axis: int) -> Tensor:
    """One row for each position, one column for each unit, float64."""
    return value.movedim(axis, -1).flatten(0, -2).double()


def goal(members: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The weighted means of the members' means and of their deviations, not of variances."""
    pairs = list(zip(weights, members, strict=True))
    mean = sum(weight * each.mean for weight, each in pairs)
    std = sum(weight * each.std for weight, each in pairs)
    return Moments(torch.as_tensor(mean), torch.as_tensor(std))


def along(units: Tensor, like: Tensor, axis: int) -> Tensor:
    """Numbers of the units, such that they broadcast over a value and have its type."""
    shape = [1] * like.dim()
    shape[axis] = -1
    return units.to(like).view(shape)


def changed(
    values: Sequence[Tensor | Uncertain], axis: int, correction: tuple[Tensor, Tensor]
) -> list[Tensor | Uncertain]:
    """The values with every unit scaled and then shifted."""
    return [_moved(value, axis, correction) for value in values]


def _moved(
    value: Tensor | Uncertain, axis: int, correction: tuple[Tensor, Tensor]
) -> Tensor | Uncertain:
    scale, shift = correction
    if isinstance(value, Uncertain):
        variance = value.variance * along(scale.square(), value.variance, axis)
        mean = value.mean * along(scale, value.mean, axis) + along(shift, value.mean, axis)
        return Uncertain(mean, variance)
    return value * along(scale, value, axis) + along(shift, value, axis)
