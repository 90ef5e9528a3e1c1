"""placeholder until the discovery branch lands."""

from __future__ import annotations

from typing import Any

from torch import nn

from wsl.symmetry.spec import PermutationSpec


def permutation_spec(model: nn.Module, *inputs: Any, **kwargs: Any) -> PermutationSpec:
    """Not written yet."""
    raise NotImplementedError


def verify(spec: PermutationSpec, model: nn.Module, *inputs: Any) -> Any:
    """Not written yet."""
    raise NotImplementedError
