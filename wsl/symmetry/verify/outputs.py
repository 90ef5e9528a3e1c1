"""The tensors that a network returns: in tuples, lists, dicts, whatever torch calls a pytree, and
in dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from wsl.symmetry.spec import SpecError

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
)


def tensors_of(outputs: Any, *, strict: bool = False) -> Iterator[Tensor]:
    """Every tensor in nested containers and dataclasses; ``strict`` raises `SpecError` at an object
    that may hide others.
    """
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, (Mapping, list, tuple)):
            yield from tensors_of(
                [*(leaf.values() if isinstance(leaf, Mapping) else leaf)], strict=strict
            )
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield from tensors_of(
                [getattr(leaf, field.name) for field in dataclasses.fields(leaf)], strict=strict
            )
        elif strict and not isinstance(leaf, _PLAIN):
            raise SpecError(
                f"the output holds a {type(leaf).__name__}, whose tensors are not seen; return "
                "tensors, "
                "or a tuple, dict or dataclass of them"
            )
