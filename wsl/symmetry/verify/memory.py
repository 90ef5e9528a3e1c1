"""`Memory`: what a network keeps from one call to the next, beside its weights and buffers.

A counter, the last hidden state, a cache of keys: attributes that a forward pass binds anew. With
them the output is no function of input and weights, and an error that is measured says nothing of
a specification. Containers that are changed in place cannot be put back and are not named; a
second call still shows that they are there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_NOT_MEMORY = ("_parameters", "_buffers", "_modules", "training")


class Memory:
    """The attributes of all modules at one time."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._first = _attributes(model)

    def changed(self) -> list[str]:
        """Full names of attributes that have another value than at first."""
        now = _attributes(self.model)
        return [
            f"{prefix}.{name}".lstrip(".")
            for (prefix, name), (_, value) in now.items()
            if not _same(value, self._first.get((prefix, name), (None, None))[1])
        ]

    @contextlib.contextmanager
    def as_at_first(self) -> Iterator[None]:
        """The attributes have their first values for the time of a block."""
        now = _attributes(self.model)
        _bind(self._first)
        try:
            yield
        finally:
            _bind(now)


Attributes = dict[tuple[str, str], tuple[nn.Module, Any]]
"""Module and value, by the module's name and that of the attribute."""


def _attributes(model: nn.Module) -> Attributes:
    return {
        (prefix, name): (module, value)
        for prefix, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in _NOT_MEMORY
    }


def _bind(attributes: Attributes) -> None:
    for (_, name), (module, value) in attributes.items():
        vars(module)[name] = value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.shape == b.shape and torch.equal(a, b))
    return a is b or (isinstance(a, (int, float, str)) and a == b)
