"""Gradients of long unrolls from losses alone: persistent, antithetic evolution strategies.

    g = 1 / (2 N s^2) sum_i xi_i (L(phi + e_i) - L(phi - e_i)),    e_i ~ N(0, s^2)

where xi_i is the sum of all e_i since i's unroll began.

Vicol, Metz, Sohl-Dickstein (2021), Unbiased gradient estimation in unrolled computation graphs with
persistent evolution strategies, arXiv 2112.13835. An unroll is cut into windows and updated after
each; xi carries the influence of earlier perturbations, which truncated evolution strategies
ignore. With windows as long as the unroll it is the plain antithetic estimate. Unbiased for the
smoothed objective; the variance grows with the number of windows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def perturbations(count: int, size: int, *, sigma: float, rng: torch.Generator) -> Tensor:
    """(count, size) draws of N(0, sigma^2)."""
    return sigma * torch.randn(count, size, generator=rng)


def gradient(accumulated: Tensor, plus: Tensor, minus: Tensor, *, sigma: float) -> Tensor:
    """(M,) from xi (N, M) and the losses (N,) of both sides of every pair."""
    return (plus - minus) @ accumulated / (2 * len(accumulated) * sigma**2)
