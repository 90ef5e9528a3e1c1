"""The same training for every arm at every learning rate, all networks of an arm in one stack.

    theta_{r, i} = AdamW^k(theta_i; lr_r),      row r n + i of the stack

Without weight decay. Network i sees the same batches at every rate, and they are those that
network i of every other arm sees: what differs between arms is where they start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.starts import SEEDS_APART
from wsl.params import Params, members
from wsl.populations import (
    AdamW,
    Classification,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    Trained,
    train_population,
)


def trained_at(
    model: nn.Module,
    theta: Mapping[str, Tensor],
    lrs: Sequence[float],
    *,
    batches: Callable[[Tensor], Any],
    steps: int,
    snapshots: Sequence[int] = (),
) -> Trained:
    """Networks (n, ...) after ``steps`` at every rate, as stacks (rates * n, ...).

    batches: made from the network (rates * n,) that each row of the stack is.
    snapshots: steps after which the stack is kept; without any, the last.
    """
    count, tried = members(theta), len(lrs)
    rate = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(count)
    return train_population(
        model,
        {name: t.repeat(tried, *[1] * (t.dim() - 1)) for name, t in theta.items()},
        F.cross_entropy,
        batches=batches(torch.arange(count).repeat(tried)),
        members=MemberSettings(lr=rate, weight_decay=torch.zeros(len(rate))),
        shared=SharedSettings(optimizer=AdamW(), steps=steps, snapshots=tuple(snapshots)),
    )


def of_rate(stack: Mapping[str, Tensor], rate: int, *, rates: int) -> Params:
    """The networks (n, ...) of one of several rates, in a stack (rates * n, ...)."""
    return {name: tensor.chunk(rates)[rate] for name, tensor in stack.items()}


def task_batches(
    data: Classification, *, batch_size: int, seed: int
) -> Callable[[Tensor], SampledBatches]:
    """Batches of the training images for rows of a stack: each network has a seed of its own."""

    def of(rows: Tensor) -> SampledBatches:
        seeds = seed * SEEDS_APART + rows
        everything = torch.ones(len(rows))
        return SampledBatches(*data.train, seeds=seeds, batch_size=batch_size, fraction=everything)

    return of
