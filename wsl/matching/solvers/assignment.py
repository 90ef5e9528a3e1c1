"""Linear assignment: the permutation of largest total score.

    pi = argmax_{pi in S_n} sum_i S[i, pi(i)]

If the largest entries of the rows lie in distinct columns they are the optimum, since no choice
scores more in any row: O(n^2), and the usual case near convergence. Everything else goes to a
solver by shortest augmenting paths, O(n^3), after each row and column has been reduced by its best
entry: that leaves the optimum where it is and halves the search. Exact for the numbers given, in
float64; of several optima, any.

The solver is SciPy's, after Crouse (2016), doi 10.1109/TAES.2016.140952, or, where the extra
``lap`` is installed, lapx's, after Jonker and Volgenant (1987), doi 10.1007/BF02278710.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Solver = Callable[[np.ndarray], np.ndarray]
"""Costs (n, n) float64 -> the column of each row in an assignment of least cost, (n,) integers."""


def assign(scores: Tensor) -> Tensor:
    """Best column of every row, int64 (..., n), for ``scores`` (..., n, n).

    Leading axes are batch; the device is kept.
    """
    n = scores.shape[-1]
    best = scores.argmax(-1)
    hard = (best.sort(-1).values != torch.arange(n, device=best.device)).any(-1)
    if not hard.any():
        return best
    solved = [_solve(matrix) for matrix in scores[hard].reshape(-1, n, n).cpu().numpy()]
    best[hard] = torch.from_numpy(np.stack(solved)).to(best)
    return best


def _solve(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    cost = scores.max(1, keepdims=True) - scores
    return solver()(cost - cost.min(0))


@functools.cache
def solver() -> Solver:
    """That of lapx if it is installed, else that of SciPy."""
    try:
        import lap  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        return scipy_solver
    return lambda cost: lap.lapjv(cost, return_cost=False)[0]


def scipy_solver(cost: np.ndarray) -> np.ndarray:
    """The columns of `scipy.optimize.linear_sum_assignment`."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(cost)[1]
