"""What a few labelled examples give without any network: floors for generated ones.

    nearest mean    argmin_c |x - mean_s x_{c,s}|
    ridge           argmax_c (W x + b)_c,    W, b = argmin sum |W x + b - onehot(y)|^2 + r |W|^2

The penalty r of each task is the one whose left-out predictions are best, which for ridge are
known in closed form: y_i - (y_i - f(x_i)) / (1 - H_ii), H the hat matrix (Allen 1974).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.generative.conditions import Episodes

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of ridge regression, in units of the mean square of a centred input."""


@torch.no_grad()
def nearest_mean_accuracy(episodes: Episodes) -> Tensor:
    """Accuracy (N,) on the query of each task: the class whose mean example is nearest."""
    means = episodes.support.inputs.flatten(3).double().mean(2)
    x, y = _flat(episodes.query.flat())
    return (torch.cdist(x, means).argmin(-1) == y).double().mean(1)


@torch.no_grad()
def ridge_accuracy(episodes: Episodes) -> Tensor:
    """Accuracy (N,) on the query of each task: ridge regression of the labels on the inputs."""
    x, y = _flat(episodes.support.flat())
    queries, wanted = _flat(episodes.query.flat())
    scored = [
        (_ridge(*task, classes=episodes.support.classes) == answer).double().mean()
        for *task, answer in zip(x, y, queries, wanted, strict=True)
    ]
    return torch.stack(scored)


def _ridge(x: Tensor, y: Tensor, queries: Tensor, *, classes: int) -> Tensor:
    """Answers to queries (Q, F) after examples (M, F), in the dual form: M is small."""
    middle, targets = x.mean(0), F.one_hot(y, classes).double()
    x, queries, base = x - middle, queries - middle, targets.mean(0)
    gram, rest = x @ x.T, targets - base
    unit = gram.diagonal().mean()
    best, answers = -1.0, targets.new_zeros(len(queries))
    for penalty in PENALTIES:
        inverse = torch.linalg.inv(gram + penalty * unit * torch.eye(len(x)).to(gram))
        left_out = rest - (inverse @ rest) / inverse.diagonal()[:, None]
        right = float((left_out.argmax(-1) == y).double().mean())
        if right > best:
            best, answers = right, (queries @ x.T @ inverse @ rest + base).argmax(-1)
    return answers


def _flat(labelled: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    inputs, labels = labelled
    return inputs.flatten(2).double(), labels
