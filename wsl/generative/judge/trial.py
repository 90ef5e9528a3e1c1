"""A fair trial of initial weights: accuracy as drawn, and after the same short training for every
arm.

    arm -> accuracy_test(theta_0),   accuracy_test(theta_k(lr*)),   lr* = argmax_lr mean
                                                                    accuracy_val(theta_k(lr))

Every arm gets the same learning rates, steps, batches and optimiser; its own best rate is chosen on
the validation images, scores are read once on the test images. Numbers are means over all draws of
an arm: none is selected. Following the protocol that survived criticism, Zeng et al. (2025), arXiv
2506.07998. It says nothing of novelty: see `evaluate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import Params
from wsl.populations import (
    AdamW,
    Classification,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    train_population,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Test accuracies (n,) of one arm's networks as drawn and after training, and the rate that was
    chosen.
    """

    drawn: Tensor
    tuned: Tensor
    lr: float


def trial(
    model: nn.Module,
    arms: Mapping[str, Mapping[str, Tensor]],
    data: Classification,
    *,
    steps: int = 50,
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2),
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Trial]:
    """Try stacked initial weights, (n, ...) for each arm, on one task; AdamW without decay, batches
    drawn by ``seed``.
    """
    return {
        name: _try(model, theta, data, steps=steps, lrs=lrs, batch_size=batch_size, seed=seed)
        for name, theta in arms.items()
    }


def _try(
    model: nn.Module,
    theta: Mapping[str, Tensor],
    data: Classification,
    *,
    steps: int,
    lrs: Sequence[float],
    batch_size: int,
    seed: int,
) -> Trial:
    count = len(next(iter(theta.values())))
    repeated = {
        name: tensor.repeat(len(lrs), *[1] * (tensor.dim() - 1)) for name, tensor in theta.items()
    }
    rate = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(count)
    seeds = (seed * 1_000_003 + torch.arange(count)).repeat(len(lrs))
    batches = SampledBatches(
        *data.train, seeds=seeds, batch_size=batch_size, fraction=torch.ones(len(seeds))
    )
    trained = train_population(
        model,
        repeated,
        F.cross_entropy,
        batches=batches,
        members=MemberSettings(lr=rate, weight_decay=torch.zeros(len(rate))),
        shared=SharedSettings(optimizer=AdamW(), steps=steps),
    ).snapshots[-1]
    chosen = data.evaluate(model, trained, "val")["accuracy"].view(len(lrs), count).mean(1).argmax()
    kept: Params = {
        name: tensor.view(len(lrs), count, *tensor.shape[1:])[chosen]
        for name, tensor in trained.items()
    }
    drawn = data.evaluate(model, theta, "test")["accuracy"]
    return Trial(drawn, data.evaluate(model, kept, "test")["accuracy"], float(lrs[int(chosen)]))
