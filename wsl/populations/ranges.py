"""Ranges and choices of a hyper-parameter, drawn for each member alone.

    log_uniform (a, b):              a (b/a)^u
    uniform (a, b):                  a + (b - a) u
    choose x_0, ..., x_k-1:          x_floor(k u)              u ~ U[0, 1)

As in Unterthiner et al. (2020), arXiv 2002.11448. In recipes these are written as a pair of numbers
or a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from wsl.zoo import ZooError

T = TypeVar("T")


def log_uniform(bounds: Sequence[float], u: Tensor) -> Tensor:
    """Float64 (n,) from ``u`` in [0, 1); equal ends for a constant, zeros for none."""
    low, high = bounds
    return torch.full_like(u, low) if low == high else low * (high / low) ** u


def uniform(bounds: Sequence[float], u: Tensor) -> Tensor:
    """Float64 (n,)."""
    low, high = bounds
    return low + (high - low) * u


def choose(options: Sequence[T], u: Tensor) -> list[T]:
    """One of ``options`` for each entry of ``u``."""
    return [options[int(i)] for i in (u * len(options)).long()]


def check_log_uniform(name: str, bounds: Sequence[float]) -> None:
    """Raise `ZooError` on a range that has no logarithm."""
    low, high = bounds
    if not (0 < low <= high or low == high == 0):
        raise ZooError(f"{name}: the range ({low}, {high}) must have 0 < low <= high, or be (0, 0)")


def check_share(name: str, bounds: Sequence[float], *, below: float) -> None:
    """Raise `ZooError` on a range outside [0, below]."""
    low, high = bounds
    if not 0 <= low <= high <= below:
        raise ZooError(f"{name}: the range ({low}, {high}) must have 0 <= low <= high <= {below}")
