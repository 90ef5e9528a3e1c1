"""Several p-values as one, without pretending that they are independent.

    Fisher       X = -sum log p_i,   P(X >= x) = e^-x sum_{j<k} x^j / j!      k independent tests
    Bonferroni   p = m min_i p_i                                            any m tests

Fisher (1925); the tail of chi-squared with 2k degrees of freedom has this closed form. Permutations
of groups that share no tensor are independent under the null (see `origin`), those of others need
not be. So groups are coloured such that neighbours, which share a tensor, differ in colour: Fisher
within each colour, Bonferroni over the colours. Two equal tests counted as independent would turn
.05 into .0175.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.special import gammaln


def log_fisher(log_ps: Sequence[float]) -> float:
    """log p of independent tests together, from the log p of each; 0 without any."""
    x = -sum(log_ps)
    if not log_ps or x <= 0:
        return 0.0
    if math.isinf(x):
        return -math.inf
    order = np.arange(len(log_ps))
    return min(0.0, float(np.logaddexp.reduce(order * math.log(x) - gammaln(order + 1.0)) - x))


def log_bonferroni(log_ps: Sequence[float]) -> float:
    """log p of tests of any dependence together; 0 without any."""
    return min(0.0, min(log_ps) + math.log(len(log_ps))) if log_ps else 0.0


def colours(tensors: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """The names of ``tensors`` in classes within which no two have a tensor in common.

    Greedy, in the order given; each class is as large as that order lets it be.
    """
    classes: list[tuple[list[str], set[str]]] = []
    for name, own in ((name, set(own)) for name, own in tensors.items()):
        home = next((each for each in classes if not each[1] & own), None)
        if home is None:
            classes.append(([name], own))
        else:
            home[0].append(name)
            home[1].update(own)
    return tuple(tuple(names) for names, _ in classes)


def log_combined(log_ps: Mapping[str, float], tensors: Mapping[str, Iterable[str]]) -> float:
    """log p of all groups: Fisher within classes that share no tensor, Bonferroni over classes."""
    classes = colours({name: tensors[name] for name in log_ps})
    return log_bonferroni([log_fisher([log_ps[name] for name in names]) for names in classes])
