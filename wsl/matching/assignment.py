"""Linear assignment: the permutation of largest total score, with a shortcut where it can be read off.

    pi = argmax_{pi in S_n} sum_i S[i, pi(i)]

If the largest entries of the rows lie in distinct columns they are the optimum, since no choice scores more in any row:
O(n^2), and the usual case near convergence. Everything else goes to SciPy's shortest augmenting paths, O(n^3):
Crouse (2016), doi 10.1109/TAES.2016.140952. Exact for the numbers given; of several optima, any.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def assign(scores: Tensor) -> Tensor:
    """Best column of every row, int64 (..., n), for ``scores`` (..., n, n); leading axes are batch, the device is kept."""
    n = scores.shape[-1]
    best = scores.argmax(-1)
    hard = (best.sort(-1).values != torch.arange(n, device=best.device)).any(-1)
    if not hard.any():
        return best
    solved = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in scores[hard].reshape(-1, n, n).cpu().numpy()]
    best[hard] = torch.stack([torch.from_numpy(columns) for columns in solved]).to(best)
    return best
