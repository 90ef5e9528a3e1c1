"""What compiled and recorded networks share: only full batches in training mode are special."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from wsl.params import Params


class FullBatches(nn.Module):
    """``network``, for batches of ``size`` in training mode by way of `fast`."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        """What the network gives."""
        full = self.training and len(next(iter(params.values()))) == self.size
        return self.fast(params, *codes) if full else self.network(params, *codes)

    def fast(self, params: Mapping[str, Tensor], *codes: Tensor) -> Tensor | Params:
        """The same, for a full batch."""
        raise NotImplementedError


@contextlib.contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """Buffers are afterwards what they were: for runs of the network that are no training."""
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    yield
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(state[name])
