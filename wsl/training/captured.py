"""Train a network on a GPU by replaying the kernels of one forward and one backward pass, recorded once.

A step of a neural functional is one or two thousand small kernels, and the processor takes longer to launch them than the GPU
to run them; a CUDA graph launches all at once (Nguyen et al. 2021, Accelerating PyTorch with CUDA Graphs). Same kernels, same
results. Only full batches in training mode are replayed; a last, smaller batch and all evaluation run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params


class Captured(nn.Module):
    """``network`` with forward and backward replayed for batches of ``size`` on a GPU in training mode.

    Recorded at the first such batch; raises ValueError where the network waits for the processor on its way.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.replay: Callable[..., Tensor | Params] | None = None

    def forward(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        """What the network gives."""
        first = next(iter(params.values()))
        if not self.training or len(first) != self.size or first.device.type != "cuda":
            return self.network(params, *codes)
        if self.replay is None:
            self.replay = self._record(dict(params), *codes)
        return self.replay(dict(params), *codes)

    def _record(self, params: Params, *codes: Tensor) -> Callable[..., Tensor | Params]:
        """Buffers are left as they were: recording runs the network a few times."""
        state = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        example: Any = {name: tensor.clone() for name, tensor in params.items()}, *(code.clone() for code in codes)
        try:
            replay = torch.cuda.make_graphed_callables(_Call(self.network), example, allow_unused_input=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{type(self.network).__name__} cannot be recorded as one CUDA graph ({reason}); set "
                             "settings.capture=false") from error  # fmt: skip
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(state[name])
        return replay  # pyright: ignore[reportReturnType] (typed for modules of tensors)


class _Call(nn.Module):
    """The network under another name: recording replaces a module's forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, params: Params, *codes: Tensor) -> Tensor | Params:
        return self.network(params, *codes)
