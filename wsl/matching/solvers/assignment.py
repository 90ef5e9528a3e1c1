"""Linear assignment: the permutation of largest total score, with a shortcut where it can be read
off.

    pi = argmax_{pi in S_n} sum_i S[i, pi(i)]

If the largest entries of the rows lie in distinct columns they are the optimum, since no choice
scores more in any row: O(n^2), and the usual case near convergence. Everything else goes to SciPy's
shortest augmenting paths, O(n^3), Crouse (2016), doi 10.1109/TAES.2016.140952, after each row and
column has been reduced by its best entry: that leaves the optimum where it is and halves the
search. Exact for the numbers given, in float64; of several optima, any.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def assign(scores: Tensor) -> Tensor:
    """Best column of every row, int64 (..., n), for ``scores`` (..., n, n).

    Leading axes are batch, the device is kept.
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
    return linear_sum_assignment(cost - cost.min(0))[1]
