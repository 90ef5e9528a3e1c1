"""The diagonal of the Fisher information of a classifier, example by example.

    F_i = mean_x sum_y p(y | x) (d log p(y | x) / d theta_i)^2           expected: needs inputs only
    F_i = mean_(x, y) (d log p(y | x) / d theta_i)^2                     observed: needs labels

Matena and Raffel (2022), arXiv 2111.09832, section 3. The square is taken of each example's own
gradient: squaring the gradient of a whole batch, as some public code does, is another quantity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from wsl.params import Params, call, is_learned

_AT_ONCE = 2**26
"""Entries of per-example Jacobians that are held at one time."""


def fisher(
    model: nn.Module, params: Mapping[str, Tensor], batches: Iterable[Tensor | tuple[Tensor, ...]]
) -> Params:
    """A tensor of its shape, float32 or wider, for each learned tensor of ``params``.

    model: returns logits (N, classes); it runs in evaluation mode. A batch is a tensor of inputs
    (N, ...), for the expected Fisher, or a pair of inputs and labels (N,), for the observed one.
    Raises ValueError for no batches and for outputs of another shape.
    """
    learned = {n: t.detach() for n, t in params.items() if is_learned(n, t)}
    held = {n: t for n, t in params.items() if n not in learned}
    total = {n: torch.zeros_like(t) for n, t in learned.items()}
    network, count = _Logs(model, held), 0
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            inputs, labels = batch if isinstance(batch, tuple | list) else (batch, None)
            _add(total, network, learned, data=(inputs, labels))
            count += len(inputs)
    finally:
        model.train(was_training)
    if not count:
        raise ValueError("fisher: no batches were given; was an iterator used up?")
    return {n: t / count for n, t in total.items()}


class _Logs:
    """log p(. | x) of one example as a function of the learned weights."""

    def __init__(self, model: nn.Module, held: Params) -> None:
        self.model, self.held = model, held

    def __call__(self, learned: Params, x: Tensor) -> Tensor:
        logits = call(self.model, {**learned, **self.held}, x[None])
        if logits.dim() != 2:
            raise ValueError(
                f"fisher: the model must return logits (N, classes), got {tuple(logits.shape)}"
            )
        return logits[0].log_softmax(0)

    def observed(self, learned: Params, x: Tensor, label: Tensor) -> Tensor:
        """log p(y | x) of the label that was observed."""
        return self(learned, x).gather(0, label[None])[0]


def _add(
    total: Params, logs: _Logs, learned: Params, *, data: tuple[Tensor, Tensor | None]
) -> None:
    inputs, labels = data
    size = sum(t.numel() for t in learned.values())
    if labels is not None:
        chunk = max(1, _AT_ONCE // size)
        per_example = torch.vmap(torch.func.grad(logs.observed), in_dims=(None, 0, 0))
        for x, y in zip(inputs.split(chunk), labels.split(chunk), strict=True):
            for name, gradient in per_example(learned, x, y).items():
                total[name] += gradient.square().sum(0)
        return
    classes = len(logs(learned, inputs[0]))
    jacobian = torch.vmap(torch.func.jacrev(logs), in_dims=(None, 0))
    value = torch.vmap(logs, in_dims=(None, 0))
    for x in inputs.split(max(1, _AT_ONCE // (size * classes))):
        with torch.no_grad():
            chances = value(learned, x).exp()
        for name, gradient in jacobian(learned, x).items():
            total[name] += torch.einsum("nc,nc...->...", chances, gradient.square())
