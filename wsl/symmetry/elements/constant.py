"""A tensor that never changes, such as an index, kept on every device that has asked for it.

A copy to an accelerator makes the processor wait for it, and cannot be captured in a graph of its
work; one copy in each forward pass would cost more than the kernels around it. Not for tensors that
are learned or saved: those are buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Constant:
    """``constant.on(device)`` is the tensor there, copied at the first call only; do not write to
    it.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copies = {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        """The tensor on ``device``."""
        if device not in self._copies:
            self._copies[device] = next(iter(self._copies.values())).to(device)
        return self._copies[device]
