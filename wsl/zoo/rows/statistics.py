"""Mean and standard deviation of each tensor over many rows, in one streamed pass in float64.

    n = n_a + n_b        d = mean_b - mean_a        mean = mean_a + d n_b / n
    M = M_a + M_b + d^2 n_a n_b / n                 std = sqrt(M / n)

Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample variances
(1979): nothing cancels, whatever the mean. Entries that are not finite are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wsl.zoo.file import RowLayout

_CHUNK = 16 << 20
"""Bytes of weights held at a time."""


def statistics(
    gather: Callable[[np.ndarray], Tensor], rows: np.ndarray, layout: RowLayout
) -> dict[str, tuple[Tensor, Tensor]]:
    """(mean, population standard deviation) over rows and entries of each tensor, 0-d float64.

    ``gather`` gives rows (n, P).
    """
    totals = {entry.name: (0, 0.0, 0.0) for entry in layout.entries}
    step = max(1, _CHUNK // (4 * layout.size))
    for start in range(0, len(rows), step):
        block = gather(rows[start : start + step]).double().cpu().numpy()
        for entry in layout.entries:
            values = block[:, entry.start : entry.end]
            totals[entry.name] = _merge(totals[entry.name], values[np.isfinite(values)])
    return {
        name: (_scalar(mean), _scalar((square / max(count, 1)) ** 0.5))
        for name, (count, mean, square) in totals.items()
    }


def _merge(total: tuple[int, float, float], values: np.ndarray) -> tuple[int, float, float]:
    if not values.size:
        return total
    count, mean, square = total
    here, new = float(values.mean()), count + values.size
    shift, inner = here - mean, float(((values - here) ** 2).sum())
    return (
        new,
        mean + shift * values.size / new,
        square + inner + shift**2 * count * values.size / new,
    )


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
