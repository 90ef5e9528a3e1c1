"""What networks of many tasks do on their own examples: the term through the task's loss.

    L_n(theta_n)  =  (1 / M) sum_m  CE( f_{theta_n}(x_{n,m}), y_{n,m} )

Every task has a network of its own and examples of its own; all run as one stacked call. Gradients
reach the weights, and so whatever made them: a decoder, a denoiser, a hyper-network. Networks run
in eval mode, so batch norm uses the running statistics among the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions.examples import LabelledExamples


def task_logits(model: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Outputs (N, M, classes) of stacked weights (N, ...), network n on ``inputs[n]`` (M, ...)."""
    return task_outputs(model, weights, inputs, read=lambda output: output)


def task_outputs(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    *,
    read: Callable[[Tensor], Tensor],
) -> Tensor:
    """What ``read`` makes of the output of each network on its own inputs, in one stacked call."""

    def one(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        return read(torch.func.functional_call(model, theta, (x,), tie_weights=False))

    training = model.training
    try:
        model.eval()
        return torch.vmap(one, randomness="different")(dict(weights), inputs)
    finally:
        model.train(training)


def task_loss(
    model: nn.Module, weights: Mapping[str, Tensor], examples: LabelledExamples
) -> Tensor:
    """Mean cross entropy (N,) of each network (N, ...) on the examples of its own task."""
    inputs, labels = examples.flat()
    found = task_logits(model, weights, inputs)
    each = F.cross_entropy(found.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view_as(labels).mean(1)


@torch.no_grad()
def task_accuracy(
    model: nn.Module, weights: Mapping[str, Tensor], examples: LabelledExamples
) -> Tensor:
    """Share (N,) of the examples of its own task that each network gets right."""
    inputs, labels = examples.flat()
    right = task_logits(model, weights, inputs).argmax(-1) == labels
    return right.float().mean(1)
