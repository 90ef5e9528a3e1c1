"""Problems that optimisers are trained and judged on, and many trainings run as one.

    L_t = loss(f_theta_t(x_t), y_t),    theta_{t+1} = rule(theta_t, grad L_t)

Every member has weights of the rule of its own. One `torch.vmap` runs all members: perturbed rules,
learning rates of a grid, seeds. What a member sees depends on its seed and the step, not on its
company. Members share an architecture; for another, make another problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.learned_optimizers.rule import Training
from wsl.params import Params, call
from wsl.populations import SampledBatches, initial_population


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Classify ``inputs`` (M, ...) as ``targets`` (M,) with the network that ``make`` builds.

    Batches are drawn with replacement.
    """

    make: Callable[[], nn.Module]
    inputs: Tensor
    targets: Tensor
    batch_size: int = 32

    def to(self, device: torch.device) -> Problem:
        """The same problem with its data on ``device``."""
        return dataclasses.replace(
            self, inputs=self.inputs.to(device), targets=self.targets.to(device)
        )

    def weights(self, seeds: Tensor) -> Params:
        """Initial weights (N, *shape) of the members with ``seeds`` (N,) int64."""
        return initial_population(self.make, seeds.tolist())

    def batches(self, seeds: Tensor) -> SampledBatches:
        """Images (N, B, ...) and labels (N, B) for every step."""
        return SampledBatches(
            self.inputs, self.targets, seeds, self.batch_size, fraction=torch.ones(len(seeds))
        )


@torch.no_grad()
def start(rule: Any, weights: Mapping[str, Tensor]) -> Training:
    """``rule.start`` for stacked weights (N, *shape)."""
    return torch.vmap(rule.start)(dict(weights))


@torch.no_grad()
def unroll(
    rule: Any,
    rules: Mapping[str, Tensor],
    training: Training,
    *,
    problem: Problem,
    seeds: Tensor,
    steps: range,
) -> tuple[Training, Tensor]:
    """Go on with N trainings for ``steps``, which number the batches.

    ``rule`` gives the formula, ``rules`` its parameters (N, ...), one row for each member,
    ``seeds`` (N,) the data. Returns where the trainings end, and losses (N, T) before each update.
    """
    advance, batches, losses = _stacked(rule, problem.make()), problem.batches(seeds), []
    for step in steps:
        training, loss = advance(dict(rules), training, *batches(step))
        losses.append(loss)
    return training, torch.stack(losses, 1)


def _stacked(rule: Any, model: nn.Module) -> Callable[..., tuple[Training, Tensor]]:
    """One update of every member, each with its own row of the rule's parameters, and its loss."""

    def loss(weights: Params, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(call(model, weights, x), y)

    def one(phi: Params, training: Training, *batch: Tensor) -> tuple[Training, Tensor]:
        grads, value = torch.func.grad_and_value(loss)(training.weights, *batch)
        return torch.func.functional_call(rule, phi, (training, grads)), value

    return torch.vmap(one)
