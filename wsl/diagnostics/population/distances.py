"""Distances between members as they are, and after the units of one are brought to the other's.

    before_ij = ||theta_i - theta_j||        after_ij = ||theta_i - g_ij.theta_j||

g_ij is found by weight matching of j to i, for each pair anew: the distance after is an upper bound
of the smallest one over the group. Over the learned tensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics.population.rows import raveled
from wsl.matching import match_many
from wsl.zoo import Checkpoints


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationDistances:
    """rows: (n,) the rows compared; before, after: (n, n) float64, symmetric, zero on the diagonal.

    Rows that are not finite are left out.
    """

    rows: np.ndarray
    before: Tensor
    after: Tensor


def population_distances(
    zoo: Checkpoints,
    rows: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PopulationDistances:
    """Compare every pair of these rows; the cost is one matching for each of n (n - 1) / 2 pairs.

    Raises ValueError where groups move integers.
    """
    rows = np.asarray(rows, dtype=np.int64)
    rows = rows[zoo.gather(rows).isfinite().all(1).numpy()]
    params, _ = zoo.read(rows)
    flat, count = raveled(zoo, params).double(), len(rows)
    before, after = torch.zeros(count, count).double(), torch.zeros(count, count).double()
    for i in range(count - 1):
        mine = {name: tensor[i] for name, tensor in params.items()}
        others = {name: tensor[i + 1 :] for name, tensor in params.items()}
        moved = raveled(zoo, match_many(zoo.spec, mine, others)(others)).double()
        before[i, i + 1 :] = before[i + 1 :, i] = (flat[i + 1 :] - flat[i]).norm(dim=1)
        after[i, i + 1 :] = after[i + 1 :, i] = (moved - flat[i]).norm(dim=1)
        if progress is not None:
            progress(i + 1, count - 1)
    return PopulationDistances(rows, before, after)
