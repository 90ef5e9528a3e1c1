"""What the linear layers and convolutions of a network read, as it runs.

A layer is a module `nn.Linear`, `nn.Conv1d` or `nn.Conv2d` in one group with zero padding given by
numbers: then its output is W x + b for rows x, which are patches for a convolution. Other layers
are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import call

Visit = Callable[[str, nn.Module, Tensor], None]
"""Called with a layer's name, the layer, and its input."""
InputBatches = Iterable[Tensor | Sequence[Tensor]]
"""Inputs of a network, one tensor or several for each batch."""


@torch.no_grad()
def watched(
    model: nn.Module, params: Mapping[str, Tensor], batches: InputBatches, *, visit: Visit
) -> None:
    """Run the network in evaluation mode, with ``visit`` at each of its layers.

    Raises ValueError without inputs.
    """
    was_training, count = model.training, 0
    model.eval()
    try:
        with ExitStack() as stack:
            for name, layer in layers(model).items():
                hook = layer.register_forward_pre_hook(_hook(name, visit))
                stack.callback(hook.remove)
            for batch in batches:
                call(model, params, *([batch] if isinstance(batch, Tensor) else batch))
                count += 1
    finally:
        model.train(was_training)
    if not count:
        raise ValueError("no inputs were given; one batch is needed")


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers by the names of their modules."""
    return {name: module for name, module in model.named_modules() if _is_seen(module)}


def weight_of(layer: nn.Module) -> Tensor:
    """A layer's weight (units, inputs), float64."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{type(layer).__name__}: its weight is no tensor")
    return weight.detach().flatten(1).double()


def rows(layer: nn.Module, value: Tensor) -> Tensor:
    """The inputs of a layer as rows (positions, inputs)."""
    if isinstance(layer, nn.Linear):
        return value.flatten(0, -2)
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        raise TypeError(f"{type(layer).__name__}: is no linear layer or convolution")
    kernel, how = layer.kernel_size, {}
    for key in ("stride", "padding", "dilation"):
        given = getattr(layer, key)
        how[key] = (int(key != "padding"), *given)[-2:]
    if isinstance(layer, nn.Conv1d):
        value, kernel = value.unsqueeze(-2), (1, *kernel)
    return F.unfold(value, tuple(kernel), **how).movedim(1, -1).flatten(0, -2)


def _is_seen(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return isinstance(module, nn.Linear)
    plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return plain and module.groups == 1


def _hook(name: str, visit: Visit) -> Callable[..., None]:
    def seen(layer: nn.Module, inputs: Any) -> None:
        visit(name, layer, inputs[0])

    return seen
