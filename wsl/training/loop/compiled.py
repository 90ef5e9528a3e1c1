"""Train a network compiled where that wins back what compiling costs, and as it is elsewhere.

    compile when  steps x cost x gain > price,    cost = elements that one step's operations write

The rule is that of `wsl.base.Engine`: a property of the network, the batch and the number of steps,
not of the clock, so that an interrupted run is decided as before. TorchInductor fuses pooling,
spreading and activations between matrix products (Ansel et al., PyTorch 2, ASPLOS 2024). Results,
dropout included, are those of the plain network to rounding. The network is compiled as a whole:
layers one by one gain less, because what lies between them is then written and read again. Only
full batches in training mode are compiled: the last, smaller batch of an epoch and all evaluation
run as they are. Without a working C++ compiler everything does, with one notice (a RuntimeWarning).
The rule does not know where compiling loses, as it does for a layer on a wide MLP
(docs/layer_speed.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsl.base import cost, warn_uncompiled
from wsl.params import Params
from wsl.training.loop.full_batches import FullBatches, kept_buffers

GAIN = 0.2e-9
"""Seconds saved per element that an uncompiled step writes: UNF's, half of DWSNet's and NFN's."""
PRICE = 90.0
"""Seconds that compiling takes; 66 to 98 were measured for four layers on a busy machine."""


class Compiled(FullBatches):
    """``network`` with forward and backward compiled for batches of ``size`` in training mode."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__(network, size)
        self.warm = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own imports
            # in a tuple: it is no second child; dropout draws the numbers of the plain network
            self.compiled: tuple[Any, ...] = (
                torch.compile(network, dynamic=False, options={"fallback_random": True}),
            )

    def fast(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        """Compiled, if there is a compiler."""
        if not self.compiled:
            return self.network(params, *codes)
        from torch._dynamo.exc import (
            BackendCompilerFailed,  # seconds to import, for those who compile
        )

        try:
            return self._run(params, *codes)
        except BackendCompilerFailed as error:
            self.compiled = ()
            warn_uncompiled("the network trains", error)
            return self.network(params, *codes)

    def _run(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        if self.warm:
            return self.compiled[0](params, *codes)
        with warnings.catch_warnings():
            for own in (DeprecationWarning, FutureWarning):  # the compiler's, of its own parts
                warnings.simplefilter("ignore", own)
            outputs = self.compiled[0](params, *codes)
        self.warm = True
        return outputs


def prepare(network: nn.Module, *example: Any, compiled: bool | None, steps: int) -> nn.Module:
    """The network to train for ``steps``, called as with ``example``; None decides by the rule."""
    worth = pays(network, example, steps) if compiled is None else compiled
    return Compiled(network, len(next(iter(example[0].values())))) if worth else network


def pays(network: nn.Module, example: tuple[Any, ...], steps: int) -> bool:
    """Whether ``steps`` win back the compilation, by one pass whose results are dropped."""
    training = network.training
    with torch.random.fork_rng(devices=[]), kept_buffers(network):
        elements = cost(
            lambda: torch.autograd.grad(
                _total(network.train()(*example)), list(network.parameters()), allow_unused=True
            )
        )
    network.train(training)
    return GAIN * elements * steps > PRICE


def _total(outputs: Tensor | Params) -> Tensor:
    """One number that depends on all outputs: numbers of each network, or weights."""
    return (
        outputs.sum()
        if isinstance(outputs, Tensor)
        else torch.stack([t.sum() for t in outputs.values()]).sum()
    )
