"""Counter-based randomness: a draw is a function of (seed, counters), never of how many were drawn before or beside it.

    u(s, c_1, ..., c_k) = mix(... mix(mix(s) + c_1) ... + c_k) / 2^53,      mix = SplitMix64's step

Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011); Steele, Lea, Flood, Fast splittable pseudorandom
number generators (OOPSLA 2014) for mix. So member i of a population sees the same data order alone or among thousands, on
any device and any torch version. Not for cryptography, and not a replacement for `torch.Generator` where order is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Float64 in [0, 1), one per element of the broadcast arguments, which are integers."""
    return bits(seed, *counters).double() / 2.0**53


def bits(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Int64 in [0, 2^53), one per element of the broadcast arguments, which are integers."""
    state = _mix(torch.as_tensor(seed, dtype=torch.int64))
    for counter in counters:
        state = _mix(state + torch.as_tensor(counter, dtype=torch.int64, device=state.device))
    return _shift(state, 11)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64; int64 products wrap around, which is the arithmetic modulo 2^64 that it needs."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64)
