"""Random weights at which every layer is heard: each layer's own parameters are divided by the size
of its output.

    theta_l <- theta_l / rms(y_l),    y_l <- y_l / rms(y_l)      layer after layer, in one forward
                                                                 pass

Without it activations of a deep network with random batch norm statistics grow like 1.5^depth, and
next to them a bias or a running mean is below any tolerance: a specification that moves it wrongly
would pass. Layer-sequential unit variance, Mishkin and Matas (2016), arXiv 1511.06422; here nothing
needs to be exact, the weights only have to be generic. Modules that return several tensors, and
parameters that are only handed to other modules, keep the size that they were drawn with.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """A forward pass in the block rescales the layers that it meets."""
    handles = [
        m.register_forward_hook(_unit)
        for m in model.modules()
        if any(p is not None for p in m._parameters.values())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _unit(module: nn.Module, args: Any, output: Any) -> Tensor | None:  # noqa: ARG001
    if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
        return None
    size = float(output.norm()) / math.sqrt(output.numel())
    if not 0 < size < math.inf:
        return None
    for parameter in module._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            parameter /= size
    return output / size
