"""Train a network on a GPU by replaying the kernels of one recorded forward and backward pass.

A step of a neural functional is one or two thousand small kernels, and the processor takes longer
to launch them than the GPU to run them; a CUDA graph launches all at once (Nguyen et al. 2021,
Accelerating PyTorch with CUDA Graphs). Same kernels, same results. Only full batches in training
mode are replayed; a last, smaller batch and all evaluation run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.training.loop.full_batches import FullBatches, kept_buffers


class Captured(FullBatches):
    """``network`` with forward and backward replayed for batches of ``size`` in training on a GPU.

    Recorded at the first such batch; raises ValueError where the network waits for the processor on
    its way.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__(network, size)
        self.replay: Callable[..., Tensor | Params] | None = None

    def fast(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        """Replayed, if the batch is on a GPU."""
        if next(iter(params.values())).device.type != "cuda":
            return self.network(params, *codes)
        if self.replay is None:
            self.replay = self._record(dict(params), *codes)
        return self.replay(dict(params), *codes)

    def _record(self, params: Params, *codes: Tensor) -> Callable[..., Tensor | Params]:
        """Recording runs the network a few times."""
        example: Any = (
            {name: tensor.clone() for name, tensor in params.items()},
            *(code.clone() for code in codes),
        )
        try:
            with kept_buffers(self.network):
                return torch.cuda.make_graphed_callables(
                    _Call(self.network), example, allow_unused_input=True
                )  # pyright: ignore[reportReturnType]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{type(self.network).__name__} cannot be recorded as one CUDA graph ({reason}); "
                "set settings.capture=false"
            ) from error


class _Call(nn.Module):
    """The network under another name: recording replaces a module's forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, params: Params, *codes: Tensor) -> Tensor | Params:
        return self.network(params, *codes)
