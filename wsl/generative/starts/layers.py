"""The matrices of torch's own layers, which starts draw anew, and the layer that gives the output.

Norms, embeddings and parameters that a module holds by itself, such as positional embeddings, are
no such matrices: every start leaves them as the network's own initialisation has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from wsl.generative.problem import Start
from wsl.params import Params
from wsl.populations import initial_population

SEEDS_APART = 1_000_003
"""Between the seeds of two runs, so that their networks do not share any."""

_GATES = {"LSTM": 4, "GRU": 3}
_LAYERS = (nn.Linear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)


def own_weights(start: Start, n: int) -> Params:
    """The network's own initialisation (n, ...), each under a seed of its own.

    Seeds are those of the start, so that they pair with the order of its batches.
    """
    return initial_population(start.fresh, [start.seed * SEEDS_APART + i for i in range(n)])


def layer_weights(model: nn.Module) -> dict[str, int]:
    """Names of the matrices of layers, and how many each is a stack of along its first axis.

    Queries, keys and values of `torch.nn.MultiheadAttention` are three, the gates of recurrent
    cells three or four.
    """
    return {
        name: _stacked(module, name.rpartition(".")[2])
        for module, name, parameter in _parameters(model)
        if parameter.dim() > 1
    }


def layer_biases(model: nn.Module) -> list[str]:
    """Names of the biases of the same layers."""
    return [name for _, name, parameter in _parameters(model) if parameter.dim() == 1]


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for path, module in model.named_modules():
        if isinstance(module, _LAYERS):
            for name, parameter in module.named_parameters(path, recurse=False):
                yield module, name, parameter


def _stacked(module: nn.Module, name: str) -> int:
    if isinstance(module, nn.MultiheadAttention):
        return 3 if name == "in_proj_weight" else 1
    return _GATES.get(getattr(module, "mode", ""), 1) if isinstance(module, nn.RNNBase) else 1


def refilled(start: Start, n: int, fill: Callable[[Tensor], object]) -> Params:
    """The network's own initialisation with ``fill`` on every matrix in place, and biases zero."""
    drawn = own_weights(start, n)
    for name, parts in layer_weights(start.model).items():
        for network in drawn[name]:
            for part in network.chunk(parts):
                fill(part)
    for name in layer_biases(start.model):
        drawn[name].zero_()
    return drawn


@torch.no_grad()
def output_layer(model: nn.Module, inputs: Tensor) -> str:
    """The name of the linear layer whose output is the network's, found by a run on ``inputs``.

    Raises ValueError where there is none.
    """
    found: dict[str, Tensor] = {}

    def seen(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({name: output})

    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    hooks = [module.register_forward_hook(seen(name)) for name, module in linear]
    try:
        output = evaluated(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, value in reversed(found.items()):
        if value.shape == output.shape and torch.equal(value, output):
            return name
    raise ValueError(
        f"{type(model).__name__}: its output is not that of one of its linear layers, so it has no "
        "last layer that could be solved for or reordered"
    )


def evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    """The output in evaluation mode, for inputs brought to the network's type.

    The model is left in the mode that it was in.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), inputs.dtype)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    modes = {module: module.training for module in model.modules()}
    try:
        return model.eval()(inputs)
    finally:
        for module, training in modes.items():
            module.training = training
