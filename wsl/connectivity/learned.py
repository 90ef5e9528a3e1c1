"""Which tensors of a network are learned: the real ones that batch norm does not measure."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.params import BATCH_NORM_BUFFERS


def is_learned(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is real, and neither a statistic nor the counter of a batch norm."""
    return tensor.is_floating_point() and name.rpartition(".")[2] not in BATCH_NORM_BUFFERS


def learned(params: Mapping[str, Tensor]) -> list[str]:
    """The names of the learned tensors, in order."""
    return [name for name, tensor in params.items() if is_learned(name, tensor)]
