"""Splits are by member, never by row: all checkpoints of one training run are on the same side.

    counts = largest-remainder rounding of (f_train, f_val, f_test) M

where a split with f > 0 gets a member if there are enough. Or counts are given, and the last
members are the test split: that of a data set with a test split of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wsl.zoo.file import SPLITS, ZooError

Fractions = tuple[float, float, float]
"""Of the members: train, val, test."""
Split = Fractions | Callable[[np.ndarray], np.ndarray]
"""Fractions, drawn; or numbers of the members, ascending (M,) -> their codes, u1 of shape (M,)."""


def split_members(count: int, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Code of the split of each of ``count`` members, drawn by ``seed``; u1 of shape (count,).

    0 is train, 1 val, 2 test.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not abs(sum(fractions) - 1) < 1e-6:
        raise ZooError(
            f"split {tuple(fractions)}: give three fractions for {', '.join(SPLITS)} that sum to 1"
        )
    codes = np.repeat(np.arange(len(SPLITS), dtype=np.uint8), _counts(count, fractions))
    return codes[np.random.default_rng(seed).permutation(count)]


def _counts(count: int, fractions: Sequence[float]) -> np.ndarray:
    """Members of each split: rounded down, the rest to the largest remainders, none left empty."""
    exact = np.array(fractions) * count
    counts = np.floor(exact + 1e-9).astype(int)
    for code in np.argsort(counts - exact, kind="stable")[: count - counts.sum()]:
        counts[code] += 1
    wanted = [code for code, fraction in enumerate(fractions) if fraction > 0]
    for code in wanted:
        if counts[code] == 0 and count >= len(wanted):
            counts[code] += 1
            counts[np.argmax(counts)] -= 1
    return counts


def split_last(members: np.ndarray, counts: Sequence[int], seed: int) -> np.ndarray:
    """Codes of ``members`` (M,), where the last members are the test split.

    Members are numbers below sum(counts): test are the last counts[2] of them, val is drawn from
    the others.

    A number's split does not depend on which members there are.
    """
    rest = counts[0] + counts[1]
    codes = np.zeros(sum(counts), dtype=np.uint8)
    codes[np.random.default_rng(seed).permutation(rest)[: counts[1]]] = 1
    codes[rest:] = 2
    return codes[members]
