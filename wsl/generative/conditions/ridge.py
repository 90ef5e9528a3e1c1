"""The last layer in closed form: ridge regression on a task's own labelled examples.

    V = argmin_V  ||Phi V - Y||^2 + lambda ||V||^2 = (Phi^T Phi + lambda I)^{-1} Phi^T Y
    leave one out:  y_i - e_i,   e_i = (y_i - yhat_i) / (1 - H_ii),   H = Phi (...)^{-1} Phi^T

Phi holds what enters the last layer, and a one where that layer has a bias; Y is one-hot minus its
mean. V is differentiable in the hidden weights, so that a generator can be trained for it, as in
R2-D2, Bertinetto et al. (2019), arXiv 1805.08136. `solve_head` chooses lambda of each task by the
squared leave-one-out error, and the scale of the logits by the leave-one-out cross entropy, so that
a solved layer is a fair start for training too; no other example is looked at.

Not done: a last layer that is not linear in its weights, or whose outputs are not the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions.axes import AxisFeatures
from wsl.generative.conditions.examples import LabelledExamples
from wsl.generative.conditions.loss import task_outputs
from wsl.params import Params

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Tried by `solve_head`, in units of the mean square of the features of the task."""

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Of the logits, tried by `solve_head`."""


def head_inputs(
    model: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor, *, head: str
) -> Tensor:
    """What enters the layer ``head`` (N, M, features) of networks (N, ...) on inputs (N, M, ...).

    Raises ValueError if the model has no such layer or it is not `torch.nn.Linear`.
    """
    layer = dict(model.named_modules()).get(head)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{head}: {type(layer).__name__}, but a closed form needs a Linear")
    seen: list[Tensor] = []

    def keep(module: nn.Module, entered: tuple[Any, ...]) -> None:
        del module
        seen.append(entered[0])

    handle = layer.register_forward_pre_hook(keep)
    try:
        # the hook runs inside of the stacked call, so what it saw is handed out as an output
        return task_outputs(model, weights, inputs, read=lambda _: seen.pop())
    finally:
        handle.remove()


def ridge(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """V (N, F, C) from features (N, M, F), targets (M, C) and penalties (N,); differentiable."""
    return torch.linalg.solve(_gram(features, penalty), features.mT @ targets)


def _gram(features: Tensor, penalty: Tensor) -> Tensor:
    eye = torch.eye(features.shape[-1]).to(features)
    return features.mT @ features + rearrange(penalty, "n -> n 1 1") * eye


def head_problem(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    examples: LabelledExamples,
    *,
    axes: AxisFeatures,
) -> tuple[Tensor, Tensor]:
    """Features (N, M, F) and targets (M, classes) of the last layer's regression.

    The last feature is a one if the layer has a bias.
    """
    inputs, labels = examples.flat()
    phi = head_inputs(model, weights, inputs, head=axes.head)
    if _bias(axes) in axes.classes:
        phi = torch.cat([phi, torch.ones_like(phi[..., :1])], -1)
    return phi, F.one_hot(labels[0], axes.count).to(phi) - 1 / axes.count


def with_head(weights: Mapping[str, Tensor], solved: Tensor, axes: AxisFeatures) -> Params:
    """The weights with V (N, F, classes) as their last layer."""
    name, bias = f"{axes.head}.weight".lstrip("."), _bias(axes)
    count = axes.spec.shapes[name][1]
    found = {**weights, name: solved[:, :count].mT}
    return {**found, bias: solved[:, count]} if bias in axes.classes else found


@torch.no_grad()
def solve_head(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    examples: LabelledExamples,
    *,
    axes: AxisFeatures,
    penalties: Sequence[float] = PENALTIES,
) -> Params:
    """Stacked weights (N, ...) with the last layer solved for the examples of each one's task."""
    phi, targets = head_problem(model, weights, examples, axes=axes)
    unit = phi.square().mean((1, 2)).clamp_min(1e-12)
    solved, left_out = zip(
        *(_leave_one_out(phi, targets, penalty * unit) for penalty in penalties), strict=True
    )
    errors = torch.stack([(out - targets).square().mean((1, 2)) for out in left_out])
    best, rows = errors.argmin(0), torch.arange(len(phi))
    answers = torch.stack(left_out)[best, rows]
    scale = _scale(answers, targets.argmax(1))
    return with_head(weights, torch.stack(solved)[best, rows] * scale[:, None, None], axes)


def _leave_one_out(phi: Tensor, targets: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """V, and for each example what the ridge without it answers (N, M, C)."""
    both = torch.cat([phi.mT @ targets, phi.mT], -1)
    parts = torch.linalg.solve(_gram(phi, penalty), both)
    solved, inverse = parts.split([targets.shape[1], phi.shape[1]], -1)
    leverage = torch.einsum("nmf,nfm->nm", phi, inverse)[..., None]
    return solved, targets - (targets - phi @ solved) / (1 - leverage).clamp_min(1e-6)


def _scale(answers: Tensor, labels: Tensor) -> Tensor:
    """The scale (N,) under which left-out answers (N, M, C) have the least cross entropy."""
    expected = labels.expand(answers.shape[:2])
    losses = torch.stack(
        [
            F.cross_entropy((s * answers).movedim(-1, 1), expected, reduction="none").mean(1)
            for s in SCALES
        ]
    )
    return torch.tensor(SCALES).to(answers)[losses.argmin(0)]


def _bias(axes: AxisFeatures) -> str:
    return f"{axes.head}.bias".lstrip(".")
