"""LSUV: orthonormal weights, then every layer divided by the deviation of its output on one batch.

    W_l  <-  W_l / std(W_l x_l)    until |var(W_l x_l) - 1| < tolerance,    l = 1 ... L in order

Mishkin and Matas (2016), arXiv 1511.06422, algorithm 1: biases are zero, at most 10 iterations for
each layer, x_l computed by the layers before as they already are.

Guarantees: the variance over the batch of the output of every linear layer and convolution that
the network calls, unless the output is constant. Not for what no module gives as its output: gates
of recurrent cells, and queries, keys and values inside of `torch.nn.MultiheadAttention`, which stay
orthonormal. Batch norm runs on its initial statistics.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from wsl.generative.problem import Start
from wsl.generative.starts.layers import evaluated
from wsl.generative.starts.scaled import OrthogonalStart
from wsl.params import Params, from_module, stack, unstack
from wsl.symmetry import copied


@dataclasses.dataclass(frozen=True)
class LSUVStart:
    """Layer-sequential unit variance on the first ``batch_size`` inputs."""

    batch_size: int = 256
    tolerance: float = 0.1
    iterations: int = 10

    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Networks one after another, since each is scaled by what it computes."""
        if start.inputs is None:
            raise ValueError("LSUVStart needs inputs, but Start has none")
        batch, model = start.inputs[: self.batch_size], copied(start.model)
        drawn = OrthogonalStart().draw(start, n, generator=generator)
        return stack([self._scaled(model, theta, batch) for theta in unstack(drawn)])

    @torch.no_grad()
    def _scaled(self, model: nn.Module, theta: Params, batch: Tensor) -> Params:
        model.load_state_dict(theta)
        layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
        hooks = [layer.register_forward_hook(self._unit_variance) for layer in layers]
        try:
            evaluated(model, batch)
        finally:
            for hook in hooks:
                hook.remove()
        return from_module(model)

    def _unit_variance(
        self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        """Scale a layer while the network runs, so that the layers after it see its new output."""
        for _ in range(self.iterations):
            variance = output.var(correction=0)
            if not variance > 0 or abs(float(variance) - 1) < self.tolerance:
                break
            layer.weight.div_(variance.sqrt())  # type: ignore[operator]
            output = layer.forward(*inputs)
        return output
