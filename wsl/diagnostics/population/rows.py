"""Which rows of a zoo are looked at, and their learned weights as one matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from wsl.zoo import Checkpoints


def sample_rows(zoo: Checkpoints, most: int, *, seed: int = 0) -> np.ndarray:
    """Row numbers, ascending, of at most ``most`` checkpoints: all of them where that suffices.

    Otherwise members are drawn without replacement, each with all of its checkpoints, so that
    trajectories stay whole; a first member with more than ``most`` checkpoints comes with its last
    ones. Raises ValueError unless ``most`` is positive.
    """
    if most < 1:
        raise ValueError(f"sample_rows: most is {most}, but at least one checkpoint is needed")
    if len(zoo) <= most:
        return np.arange(len(zoo))
    member = zoo.table["member"]
    members, counts = np.unique(member, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(members))
    kept = np.searchsorted(np.cumsum(counts[order]), most, side="right")
    return np.flatnonzero(np.isin(member, members[order[: max(1, kept)]]))[-most:]


def last_rows(zoo: Checkpoints) -> np.ndarray:
    """The row number of each member's last checkpoint, in the order of the rows."""
    member = zoo.table["member"]
    return np.flatnonzero(np.append(member[1:] != member[:-1], True))


def learned_tensors(zoo: Checkpoints) -> tuple[str, ...]:
    """Names of the floating tensors that training changes by gradients, in state-dict order."""
    return tuple(
        name
        for name, dtype in zoo.dtypes.items()
        if dtype.is_floating_point and name not in zoo.buffers
    )


def member_weights(zoo: Checkpoints) -> Tensor:
    """The learned weights of every row, (N, P) float32."""
    return raveled(zoo, zoo.read(np.arange(len(zoo)))[0])


def raveled(zoo: Checkpoints, params: Mapping[str, Tensor]) -> Tensor:
    """The learned tensors of stacked checkpoints as (N, P) float32."""
    parts = [params[name] for name in learned_tensors(zoo)]
    return torch.cat([t.reshape(len(t), math.prod(t.shape[1:])).float() for t in parts], 1)
