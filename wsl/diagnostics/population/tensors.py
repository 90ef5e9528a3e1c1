"""How the entries and singular values of each tensor are distributed over a population.

    q_p(W), p in QUANTILE_LEVELS             quantiles of the entries of one member's tensor
    s_1(W) >= s_2(W) >= ...         singular values of W as (first axis) x (all others)

A convolution's kernel is read as the matrix from patches to channels.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics.population.rows import learned_tensors
from wsl.zoo import Checkpoints

QUANTILE_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Shares of the entries of a tensor that lie below its quantiles."""


@dataclasses.dataclass(frozen=True, eq=False)
class TensorProfile:
    """One tensor of N checkpoints; NaN for those that are not finite.

    quantiles: (N, len(QUANTILE_LEVELS)) float32.
    singular_values: (N, K) float32, the K largest; K is 0 for tensors of fewer than two axes.
    """

    name: str
    shape: tuple[int, ...]
    quantiles: Tensor
    singular_values: Tensor


def tensor_profiles(zoo: Checkpoints, rows: np.ndarray, *, most: int = 16) -> list[TensorProfile]:
    """The learned tensors of these rows, each with its quantiles and ``most`` singular values."""
    params, _ = zoo.read(np.asarray(rows, dtype=np.int64))
    return [_profile(name, params[name].float(), most) for name in learned_tensors(zoo)]


def _profile(name: str, values: Tensor, most: int) -> TensorProfile:
    count, shape = len(values), tuple(values.shape[1:])
    flat = values.reshape(count, math.prod(shape))
    finite = flat.isfinite().all(1)
    quantiles = torch.full((count, len(QUANTILE_LEVELS)), torch.nan)
    quantiles[finite] = _quantiles(flat[finite])
    kept = min(most, values.shape[1], flat.shape[1] // values.shape[1]) if len(shape) > 1 else 0
    spectra = torch.full((count, kept), torch.nan)
    if kept:
        matrices = flat[finite].unflatten(1, (values.shape[1], -1))
        spectra[finite] = torch.linalg.svdvals(matrices)[:, :kept]
    return TensorProfile(name, shape, quantiles, spectra)


def _quantiles(flat: Tensor) -> Tensor:
    """Quantiles (n, levels) of each row by linear interpolation.

    By a sort: `torch.quantile` refuses more than 2^24 values.
    """
    ordered = flat.sort(1).values
    place = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64) * (flat.shape[1] - 1)
    low = place.floor().long()
    high = place.ceil().long()
    return torch.lerp(ordered[:, low], ordered[:, high], (place - low).float())
