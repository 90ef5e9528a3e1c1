"""A population with the units of every member in the order of one reference's.

    theta_i(t)  ->  g_i.theta_i(t),    g_i = argmax_g <theta_ref(T), g.theta_i(T)>,  T the last

One element for all checkpoints of a member, found at its last, so that a trajectory stays the
trajectory that was trained. Weight matching (Ainsworth et al. 2023, arXiv 2209.04836) of each
member to the reference: a local optimum, which brings members nearer to the reference than to each
other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics.population.rows import last_rows, raveled
from wsl.matching import Match, match_many
from wsl.zoo import Checkpoints

_TOGETHER = 1 << 19
"""Values of members that are matched at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedMembers:
    """weights: (N, P) float32 as `member_weights` gives them, aligned; NaN where not.

    members: how many were aligned.
    reference: the row to whose order of units all are brought; -1 if no row is finite.
    """

    weights: Tensor
    members: int
    reference: int


def align_members(
    zoo: Checkpoints,
    *,
    most: int = 1024,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AlignedMembers:
    """Align members to the first one whose weights are finite; of more than ``most``, some.

    ``progress`` is told how many are done, and of how many. Members whose last checkpoint is not
    finite are left out. Raises ValueError where groups move integers.
    """
    ends = last_rows(zoo)
    first = np.append(0, ends[:-1] + 1)
    weights = torch.full((len(zoo), raveled(zoo, zoo.read(ends[:0])[0]).shape[1]), torch.nan)
    chosen = _chosen(_finite(zoo, ends), most, seed)
    if not len(chosen):
        return AlignedMembers(weights, 0, -1)
    reference = {name: t[0] for name, t in zoo.read(ends[chosen[:1]])[0].items()}
    step = max(1, _TOGETHER // max(1, weights.shape[1]))
    for start in range(0, len(chosen), step):
        some = chosen[start : start + step]
        found = match_many(zoo.spec, reference, zoo.read(ends[some])[0])
        _move(weights, zoo, found, first=first[some], last=ends[some])
        if progress is not None:
            progress(min(start + step, len(chosen)), len(chosen))
    return AlignedMembers(weights, len(chosen), int(ends[chosen[0]]))


def _chosen(finite: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Numbers of the members to align, ascending: the first finite one, and others drawn."""
    numbers = np.flatnonzero(finite)
    drawn = np.random.default_rng(seed).permutation(numbers[1:])[: max(0, most - 1)]
    return np.append(numbers[:1], np.sort(drawn))


def _finite(zoo: Checkpoints, rows: np.ndarray) -> np.ndarray:
    """Whether each of these rows holds finite values only."""
    size = max(1, _TOGETHER // zoo.header.layout.size)
    parts = [
        zoo.gather(rows[start : start + size]).isfinite().all(1)
        for start in range(0, len(rows), size)
    ]
    return torch.cat(parts).numpy() if parts else np.zeros(0, dtype=bool)


def _move(
    weights: Tensor, zoo: Checkpoints, found: Match, *, first: np.ndarray, last: np.ndarray
) -> None:
    """Write every checkpoint of some members, moved by the member's element, into ``weights``.

    Members with fewer checkpoints repeat their first one, which is then written twice alike.
    """
    for back in range(int((last - first).max()) + 1):
        rows = np.maximum(last - back, first)
        weights[torch.from_numpy(rows)] = raveled(zoo, found(zoo.read(rows)[0]))
