"""The law of rencontres: how many units a random permutation leaves where they are.

    P(F = k) = 1/k! sum_{i=0}^{n-k} (-1)^i / i!        F = #{i : pi(i) = i},  pi uniform on S_n

de Montmort (1708). Exact for every n; for large n it is Poisson's law with mean 1, to which tails
agree for all but the smallest groups. A family has a permutation for each of m units, and its F is
the sum of m independent ones: their laws are convolved. Everything is in natural logarithms, since
a network of 4,096 kept units has p = 1/4096!, below the smallest float.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import gammaln


@functools.lru_cache(maxsize=256)
def log_law(size: int, copies: int = 1) -> np.ndarray:
    """log P(F = k) for k = 0 to size * copies: fixed points of ``copies`` permutations together.

    Read only. Raises ValueError unless both are at least 1.
    """
    if size < 1 or copies < 1:
        raise ValueError(
            f"log_law: size is {size} and copies is {copies}, but both must be at least 1"
        )
    law = _one(size)
    for bit in bin(copies)[3:]:
        law = _sum(law, law)
        law = _sum(law, _one(size)) if bit == "1" else law
    law.setflags(write=False)
    return law


def log_tail(size: int, least: int, copies: int = 1) -> float:
    """log P(F >= least); 0 where ``least`` is 0 or less, -inf where it is more than there are."""
    if least <= 0:
        return 0.0
    above = log_law(size, copies)[least:]
    return min(0.0, float(np.logaddexp.reduce(above))) if len(above) else -np.inf


def _one(size: int) -> np.ndarray:
    """The law of one permutation: the share of derangements of the rest, over k!."""
    signs = np.where(np.arange(size + 1) % 2, -1.0, 1.0)
    deranged = np.cumsum(signs * np.exp(-gammaln(np.arange(size + 1) + 1.0)))
    deranged[1:2] = 0.0  # one unit cannot be deranged; the sum may leave rounding
    with np.errstate(divide="ignore"):
        return np.log(deranged[::-1]) - gammaln(np.arange(size + 1) + 1.0)


def _sum(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The law of the sum of two independent counts."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = np.full(len(one) + len(other) - 1, -np.inf)
    for k, weight in enumerate(shorter):
        here = slice(k, k + len(longer))
        total[here] = np.logaddexp(total[here], longer + weight)
    return total
