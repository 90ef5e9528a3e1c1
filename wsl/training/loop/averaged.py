"""Fabric's strategy for several processes, in which the loop averages gradients, and no wrapper.

`DistributedDataParallel` does so in hooks of a module's forward. Here a loss may call parts of a
network, leave parameters unread or estimate its gradient without backward, and networks are small:
one message after backward serves all of them.
"""

from __future__ import annotations

from typing import Any

from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn


class AveragedGradients(DDPStrategy):
    """`DDPStrategy` that leaves modules as they are."""

    def setup_module(self, module: nn.Module) -> Any:
        """The module itself."""
        return module
