"""A fair trial of initial weights: accuracy as drawn, and after the same short training for all.

    arm -> accuracy_test(theta_0),   accuracy_test(theta_k(lr*))
    lr* = argmax_lr mean accuracy_val(theta_k(lr))

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

from wsl.generative.starts import SEEDS_APART
from wsl.params import Params
from wsl.populations import (
    AdamW,
    Classification,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    train_population,
)

STEPS = 50
"""Of training after the draw, unless told otherwise."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Test accuracies (n,) of one arm's networks as drawn and after training at the best rate."""

    drawn: Tensor
    tuned: Tensor
    lr: float


def trial(
    model: nn.Module,
    arms: Mapping[str, Mapping[str, Tensor]],
    data: Classification,
    *,
    steps: int = STEPS,
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2),
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Trial]:
    """Try stacked initial weights, (n, ...) for each arm, on one task.

    AdamW without decay; batches are drawn by ``seed``.
    """

    def batches(count: int) -> SampledBatches:
        """Of as many networks at every rate; network i sees the same batches at all of them."""
        seeds = (seed * SEEDS_APART + torch.arange(count)).repeat(len(lrs))
        everything = torch.ones(len(seeds))
        return SampledBatches(*data.train, seeds=seeds, batch_size=batch_size, fraction=everything)

    found = {}
    for name, theta in arms.items():
        order = batches(len(next(iter(theta.values()))))
        tuned, lr = _tuned(model, theta, data, lrs=lrs, batches=order, steps=steps)
        drawn = data.evaluate(model, theta, "test")["accuracy"]
        found[name] = Trial(drawn, data.evaluate(model, tuned, "test")["accuracy"], lr)
    return found


def _tuned(
    model: nn.Module,
    theta: Mapping[str, Tensor],
    data: Classification,
    *,
    lrs: Sequence[float],
    batches: SampledBatches,
    steps: int,
) -> tuple[Params, float]:
    """The networks after training at the best rate by the validation images, and that rate."""
    count = len(next(iter(theta.values())))
    rate = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(count)
    repeated = {name: t.repeat(len(lrs), *[1] * (t.dim() - 1)) for name, t in theta.items()}
    trained = train_population(
        model,
        repeated,
        F.cross_entropy,
        batches=batches,
        members=MemberSettings(lr=rate, weight_decay=torch.zeros(len(rate))),
        shared=SharedSettings(optimizer=AdamW(), steps=steps),
    ).snapshots[-1]
    chosen = data.evaluate(model, trained, "val")["accuracy"].view(len(lrs), count).mean(1).argmax()
    kept = {n: t.view(len(lrs), count, *t.shape[1:])[chosen] for n, t in trained.items()}
    return kept, float(lrs[int(chosen)])
