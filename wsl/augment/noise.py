"""Augmentations that know nothing of the network: noise, and weights that are set to zero.

    noise      w + e,  e ~ N(0, (scale * std(w))^2),  std over one tensor of one checkpoint
               v * exp(e),  e ~ N(0, (scale * std(log v))^2),  for running variances v
    dropout    w * m,  m ~ Bernoulli(1 - p);  divided by 1 - p if asked to
    quantile   0 where |w| is below the q-quantile of one checkpoint's weights,  q ~ U(0, most)

Shamsian et al. (2024), arXiv 2402.04081, with their defaults. They change the function, and so
what a label says of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.augment.compose import floating, per_row, rows
from wsl.params import Params, is_running_variance


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Noise of ``scale`` standard deviations of each tensor; a tensor of equal values gets none.

    Running variances of batch norm are multiplied by noise instead, so that they stay positive.
    """

    scale: float = 0.32

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"GaussianNoise: scale is {self.scale}, but it must lie in [0, inf)")

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Weights (batch, *shape) with noise."""
        return {
            name: self._noisy(name, tensor, generator) if tensor.is_floating_point() else tensor
            for name, tensor in params.items()
        }

    def _noisy(self, name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
        drawn = _normal(tensor, generator)
        if is_running_variance(name):
            spread = _std(tensor.clamp_min(torch.finfo(tensor.dtype).tiny).log())
            return tensor * (drawn * per_row(self.scale * spread, tensor)).exp()
        return tensor + drawn * per_row(self.scale * _std(tensor), tensor)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zero each weight with probability ``p``; with ``rescale`` the expectation stays."""

    p: float = 0.1
    rescale: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ValueError(f"Dropout: p is {self.p}, but it must lie in [0, 1)")

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Weights (batch, *shape), some of them zero."""
        moved = dict(params)
        for name in floating(params):
            tensor = params[name]
            kept = (
                torch.rand(tensor.shape, generator=generator).to(tensor.device, non_blocking=True)
                >= self.p
            )
            moved[name] = tensor * kept / (1 - self.p if self.rescale else 1)
        return moved


@dataclasses.dataclass(frozen=True)
class QuantileDropout:
    """Zero the smallest weights of each checkpoint, a share drawn uniformly up to ``most``."""

    most: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise ValueError(f"QuantileDropout: most is {self.most}, but it must lie in [0, 1]")

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Weights (batch, *shape), the smallest of them zero."""
        names = floating(params)
        sizes = torch.cat([params[name].abs().flatten(1).float() for name in names], 1)
        drawn = torch.rand(rows(params), generator=generator)
        cut = _quantile(sizes, drawn.to(sizes, non_blocking=True) * self.most)
        return {**params, **{name: _without_small(params[name], cut) for name in names}}


def _without_small(tensor: Tensor, cut: Tensor) -> Tensor:
    return tensor.masked_fill(tensor.abs() < per_row(cut, tensor), 0)


def _quantile(values: Tensor, share: Tensor) -> Tensor:
    """In each row (batch, n) the entry below which a share (batch,) of them lies."""
    place = (share * (values.shape[1] - 1)).long()
    return values.sort(1).values.gather(1, place[:, None])[:, 0]


def _normal(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator).to(tensor, non_blocking=True)


def _std(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).std(1, correction=0)
