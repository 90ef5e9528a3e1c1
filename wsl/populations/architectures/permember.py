"""Functions of torch that cannot be stacked, replaced while one member's pass is vectorised.

    dropout:  y = x m / (1 - p)      m = [u(seed, 3, step, k, position) >= p]      k = 0, 1, ...

where k counts the calls of dropout in one pass; Srivastava et al. (2014). Draws come from `counter`
and are a function of member, step and place, where torch's generator would give a member other
draws in other company. Recurrent layers are written out (`wsl.populations.architectures.cells`).
One forward pass for each ``with PerMember(...)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wsl.base import counter
from wsl.populations.architectures.cells import CELLS, recurrent

_DROPOUT = 3
"""Stream of a member's randomness; `wsl.populations.tasks.batches` has the others."""
_LEVELS = 1 << 17
"""A rate is exact to one part in this."""

_DrawnShape = Callable[[Tensor], Sequence[int]]
"""Input of a dropout layer -> the shape of its draws, which broadcasts to that of the input."""


class _Dropout(NamedTuple):
    """Arguments of `torch.nn.functional.dropout`."""

    input: Tensor
    p: float = 0.5
    training: bool = True
    inplace: bool = False


class PerMember(TorchFunctionMode):
    """The pass of the member with this ``seed`` at this ``step``, both 0-d int64.

    ``rate`` (0-d) replaces the rates of dropout of the modules, None keeps them.
    """

    def __init__(self, seed: Tensor, step: Tensor, rate: Tensor | None) -> None:
        super().__init__()
        self._key, self._rate = counter.key(seed, _DROPOUT, step), rate
        self._calls = itertools.count()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func in CELLS:
            return recurrent(CELLS[func], *args, **(kwargs or {}))
        if func is F.group_norm:
            return _group_norm(*args, **(kwargs or {}))
        if func in _DRAWN_SHAPE:
            return self._dropout(_DRAWN_SHAPE[func], _Dropout(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _dropout(self, drawn_shape: _DrawnShape, given: _Dropout) -> Tensor:
        x, call = given.input, next(self._calls)
        if not given.training or (self._rate is None and given.p == 0):
            return x
        own = torch.as_tensor(given.p, dtype=x.dtype, device=x.device)
        rate = own if self._rate is None else self._rate
        kept = self._draws(call, drawn_shape(x), x.device) >= rate * _LEVELS
        return _scaled(x, kept, 1 - rate)

    def _draws(self, call: int, shape: Sequence[int], device: torch.device) -> Tensor:
        """Uniform integers below `_LEVELS` for one call.

        Three of 17 bits are cut from each number: hashing is most of what dropout costs.
        """
        count = math.prod(shape)
        bits = counter.more(self._key, call, torch.arange(-(-count // 3), device=device))
        parts = torch.stack([(bits >> by) & (_LEVELS - 1) for by in (0, 17, 34)])
        return parts.flatten()[:count].view(torch.Size(shape))


def _group_norm(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The same on (B, C, positions): of images, torch asks how they lie in memory, which a stacked
    one whose channels lie last cannot answer.
    """
    return F.group_norm(input.flatten(2), *args, **kwargs).view(input.shape)


def _scaled(x: Tensor, kept: Tensor, share: Tensor) -> Tensor:
    """What is kept, divided by the share that is kept on average."""
    return torch.where(kept, x / share.clamp(min=torch.finfo(x.dtype).eps), 0.0)


def _channels(x: Tensor) -> list[int]:
    """(B, C, 1, ...): one draw for a whole channel."""
    return [*x.shape[:2], *[1] * (x.dim() - 2)]


_DRAWN_SHAPE: Mapping[Any, _DrawnShape] = {
    F.dropout: lambda x: x.shape,
    F.dropout1d: _channels,
    F.dropout2d: _channels,
    F.dropout3d: _channels,
}
