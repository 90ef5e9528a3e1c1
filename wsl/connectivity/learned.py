"""Which tensors of a network are learned: the real ones that batch norm does not measure."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.params import is_learned


def is_real(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is learned, and its numbers are real."""
    return tensor.is_floating_point() and is_learned(name, tensor)


def learned(params: Mapping[str, Tensor]) -> list[str]:
    """The names of the learned tensors, in order."""
    return [name for name, tensor in params.items() if is_real(name, tensor)]
