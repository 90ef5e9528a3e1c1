"""Counter-based randomness: a draw is a function of a seed and counters, and of nothing else.

    u(s, c_1, ..., c_k) = mix(... mix(mix(s) + c_1) ... + c_k) / 2^53,      mix = SplitMix64's step

Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011); Steele, Lea, Flood, Fast
splittable pseudorandom number generators (OOPSLA 2014) for mix. A draw does not depend on how many
were drawn before or beside it: member i of a population sees the same data order alone or among
thousands, on any device and with any version of torch. Not for cryptography, and no replacement for
`torch.Generator` where the order of draws is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def uniform(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Float64 in [0, 1), one per element of the broadcast arguments, which are integers."""
    return bits(seed, *counters).double() / 2.0**53


def bits(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Int64 in [0, 2^53), one per element of the broadcast arguments, which are integers."""
    return more(key(seed, *counters))


def key(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """The state after seed and counters: ``more(key(s, a), b)`` is ``bits(s, a, b)``.

    So counters that many draws share are hashed once.
    """
    return _absorb(_mix(torch.as_tensor(seed, dtype=torch.int64)), counters)


def more(state: Tensor, *counters: int | Tensor) -> Tensor:
    """As `bits`, from a `key`."""
    return _shift(_absorb(state, counters), 11)


def normal(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Float64 standard normal, one per element of the broadcast arguments.

    By the transformation of Box and Muller (1958).
    """
    radius = (-2 * torch.log1p(-uniform(seed, *counters, 0))).sqrt()
    return radius * torch.cos(2 * math.pi * uniform(seed, *counters, 1))


def permutation(index: Tensor, size: Tensor, seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Where a random permutation of 0..size-1 puts ``index``, without storing the permutation.

    A bijection for each (size, seed, counters): a Feistel network on the next power of four, walked
    until it is back below ``size`` (Black and Rogaway, Ciphers with arbitrary finite domains,
    2002). All arguments broadcast; 0 <= index < size.
    """
    half = _half_width(size)
    index, size, half = torch.broadcast_tensors(index, size, half)
    state = key(seed, *counters)
    rounds = [_absorb(state, (number,)) for number in range(4)]
    found = _feistel(index, half, rounds)
    while bool((found >= size).any()):
        found = torch.where(found >= size, _feistel(found, half, rounds), found)
    return found


def _half_width(size: Tensor) -> Tensor:
    """The smallest h >= 1 with 4^h >= size: each half of the Feistel network has h bits."""
    half = torch.ones_like(size)
    while bool((1 << (2 * half) < size).any()):
        half = torch.where(1 << (2 * half) < size, half + 1, half)
    return half


def _feistel(x: Tensor, half: Tensor, rounds: Sequence[Tensor]) -> Tensor:
    low = (1 << half) - 1
    left, right = x >> half, x & low
    for state in rounds:
        left, right = right, left ^ (more(state, right) & low)
    return (left << half) | right


def _absorb(state: Tensor, counters: tuple[int | Tensor, ...]) -> Tensor:
    for counter in counters:
        if isinstance(counter, Tensor):
            counter = counter.to(state.device, torch.int64)
        state = _mix(state + counter)
    return state


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
