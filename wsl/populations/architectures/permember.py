"""Functions of torch that do not stack, replaced while one member's forward pass is vectorised:
dropout, recurrent layers.

    dropout:  y = x m / (1 - p),   m = [u(seed, 3, step, k, position) >= p],   k = 0, 1, ... in the
        order of the pass

Srivastava et al. (2014). Draws come from `counter` and are a function of member, step and place,
where torch's generator would give a member other draws in other company. Recurrent layers are
written out (`wsl.populations.architectures.recurrent`). One forward pass for each ``with
PerMember(...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


class PerMember(TorchFunctionMode):
    """``seed`` and ``step`` are 0-d int64, of one member; ``rate`` (0-d) replaces the rates of the
    modules, None keeps them.
    """

    def __init__(self, seed: Tensor, step: Tensor, rate: Tensor | None) -> None:
        super().__init__()
        self._key, self._rate, self._calls = counter.key(seed, _DROPOUT, step), rate, 0

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
        if func in _DRAWS:
            return self._drop(_DRAWS[func], *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _drop(
        self,
        draws: Callable[[Tensor], Sequence[int]],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        del inplace
        call, self._calls = self._calls, self._calls + 1
        if not training or (self._rate is None and p == 0):
            return input
        rate = (
            torch.as_tensor(p, dtype=input.dtype, device=input.device)
            if self._rate is None
            else self._rate
        )
        shape = torch.Size(draws(input))
        count = shape.numel()
        # three draws of 17 bits from each number: hashing is most of what dropout costs
        bits = counter.more(self._key, call, torch.arange(-(-count // 3), device=input.device))
        parts = torch.stack([(bits >> by) & (_LEVELS - 1) for by in (0, 17, 34)])
        kept = parts.flatten()[:count].view(shape) >= rate * _LEVELS
        return torch.where(kept, input / (1 - rate).clamp(min=torch.finfo(input.dtype).eps), 0.0)


def _channels(x: Tensor) -> list[int]:
    """(B, C, 1, ...): one draw for a whole channel."""
    return [*x.shape[:2], *[1] * (x.dim() - 2)]


_DRAWS: Mapping[Any, Callable[[Tensor], Sequence[int]]] = {
    F.dropout: lambda x: x.shape,
    F.dropout1d: _channels,
    F.dropout2d: _channels,
    F.dropout3d: _channels,
}
