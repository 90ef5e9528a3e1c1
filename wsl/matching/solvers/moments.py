"""Second moments of paired samples, one portion at a time.

    C_ij = sum_s (x_is - mean x_i) (y_js - mean y_j),     of two portions m and n together

    C = C_m + C_n + (m n / (m + n)) (mean_n x - mean_m x) (mean_n y - mean_m y)^T

Chan, Golub, LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample
variances. Every portion is centred by its own mean, so a variance is a sum of squares and never
negative, whatever the mean. Products are taken in the precision of the samples, at least float32,
and summed in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CONSTANT = 1e-12
"""A unit whose variance is at most this share of its mean square is taken for constant: what is
left is the rounding of float32."""


class _Side(NamedTuple):
    """Mean, and sum of squares about it, of each unit of one network, float64 (units,)."""

    mean: Tensor
    squares: Tensor


def _centred(samples: Tensor) -> tuple[Tensor, _Side]:
    """The samples less the mean of each unit, and their moments."""
    mean = samples.mean(1, dtype=torch.float64)
    apart = samples - mean[:, None].to(samples)
    return apart, _Side(mean, apart.square().sum(1, dtype=torch.float64))


class PairedMoments:
    """Moments of units of two networks on the same samples; give samples (units, samples)."""

    def __init__(self) -> None:
        self.count = 0
        self.cross = torch.zeros(())
        self.sides: tuple[_Side, ...] = ()

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in a portion of samples, the same for both."""
        count, (x, mine), (y, theirs) = x.shape[1], _centred(x), _centred(y)
        cross, sides = (x @ y.T).double(), [mine, theirs]
        if self.count:
            cross, sides = self._joined(cross, sides, count)
        self.count, self.cross, self.sides = self.count + count, cross, tuple(sides)

    def _joined(self, cross: Tensor, sides: list[_Side], count: int) -> tuple[Tensor, list[_Side]]:
        total = self.count + count
        weight = self.count * count / total
        shifts = [new.mean - old.mean for old, new in zip(self.sides, sides, strict=True)]
        joined = [
            _Side(old.mean + shift * (count / total), old.squares + new.squares + weight * shift**2)
            for old, new, shift in zip(self.sides, sides, shifts, strict=True)
        ]
        return self.cross + cross + weight * torch.outer(*shifts), joined

    def covariance(self) -> Tensor:
        """Of unit i of the first and unit j of the second network, float64 (units, units)."""
        return self.cross / max(self.count, 1)

    def correlation(self) -> Tensor:
        """The same in units of the standard deviations; 0 for a unit that is constant."""
        x, y = (self._inverse_norm(side) for side in self.sides)
        return x[:, None] * self.cross * y

    def _inverse_norm(self, side: _Side) -> Tensor:
        noise = CONSTANT * (side.squares + self.count * side.mean**2)
        return torch.where(side.squares > noise, side.squares.rsqrt(), 0.0)
