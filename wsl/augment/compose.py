"""One augmentation after another, and the helpers that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from wsl.params import Params


class Augmentation(Protocol):
    """A function of stacked weights, every tensor (batch, *shape), that draws for each row."""

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator, /) -> Params:
        """Weights of the same shapes; the input stays as it is."""
        ...


class Compose:
    """``Compose(a, b)(theta)`` is ``b(a(theta))``."""

    def __init__(self, *augmentations: Augmentation) -> None:
        self.augmentations = augmentations

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Apply all, in order."""
        result = dict(params)
        for augmentation in self.augmentations:
            result = augmentation(result, generator)
        return result


def floating(params: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold numbers, not counts."""
    return [name for name, tensor in params.items() if tensor.is_floating_point()]


def rows(params: Mapping[str, Tensor]) -> int:
    """Length of the leading axis."""
    return len(next(iter(params.values())))


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """One number for each row, shaped so that it broadcasts against a stacked tensor."""
    return values.to(like, non_blocking=True).view(-1, *[1] * (like.dim() - 1))
