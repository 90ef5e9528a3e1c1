"""Many checkpoints in portions, and what their ascents found put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

ENTRIES = 2**25
"""Weights that are matched at a time; more rows than have so many are done in portions."""


class Ascended(NamedTuple):
    """What the ascent of some rows found, in the order of ``rows``.

    gains: what each sweep gained, float64 (N, sweeps). value: the objective over the pieces.
    """

    rows: Tensor
    indices: dict[str, Tensor]
    signs: dict[str, Tensor]
    value: Tensor
    sweeps: Tensor
    converged: Tensor
    gains: Tensor
    seconds: dict[str, float]

    def trace(self, objective: Tensor) -> Tensor:
        """The objective (N,) after each sweep, (N, sweeps), from what the later ones gained."""
        later = self.gains.flip(1).cumsum(1).flip(1) - self.gains
        return objective[:, None] - later


def portions(params: Mapping[str, Tensor]) -> list[Tensor]:
    """Numbers of the rows of stacked weights, in portions of at most `ENTRIES` weights."""
    count = len(next(iter(params.values())))
    size = sum(tensor.numel() for tensor in params.values()) // count
    return list(torch.arange(count).split(max(1, ENTRIES // max(size, 1))))


def take(params: Mapping[str, Tensor], rows: Tensor) -> Mapping[str, Tensor]:
    """Some rows of stacked weights; all of them are not copied."""
    if len(rows) == len(next(iter(params.values()))):
        return params
    return {name: tensor[rows.to(tensor.device)] for name, tensor in params.items()}


def collect(parts: Sequence[Ascended]) -> Ascended:
    """All parts as one, in the order of the rows."""
    if len(parts) == 1:
        return parts[0]
    rows = torch.cat([part.rows for part in parts])
    sweeps = max(part.gains.shape[1] for part in parts)
    whole = _joined([part._replace(gains=_widened(part.gains, sweeps)) for part in parts])
    return Ascended(*(_sorted(field, rows.argsort()) for field in whole))


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors one below the other, numbers added, in tuples and mappings alike."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return [_joined(field) for field in zip(*parts, strict=True)]
    return torch.cat(list(parts)) if isinstance(first, Tensor) else sum(parts)


def _sorted(field: Any, order: Tensor) -> Any:
    if isinstance(field, dict):
        return {key: _sorted(value, order) for key, value in field.items()}
    return field[order] if isinstance(field, Tensor) else field


def _widened(gains: Tensor, sweeps: int) -> Tensor:
    return torch.nn.functional.pad(gains, (0, sweeps - gains.shape[1]))
