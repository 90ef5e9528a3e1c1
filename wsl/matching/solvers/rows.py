"""Many checkpoints in portions, and what their ascents found put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    order = torch.cat([part.rows for part in parts]).argsort()
    longest = max(part.gains.shape[1] for part in parts)

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors))[order]

    return Ascended(
        rows=joined([part.rows for part in parts]),
        indices={name: joined([p.indices[name] for p in parts]) for name in parts[0].indices},
        signs={name: joined([p.signs[name] for p in parts]) for name in parts[0].signs},
        value=joined([part.value for part in parts]),
        sweeps=joined([part.sweeps for part in parts]),
        converged=joined([part.converged for part in parts]),
        gains=joined([_widened(part.gains, longest) for part in parts]),
        seconds={key: sum(part.seconds[key] for part in parts) for key in parts[0].seconds},
    )


def _widened(gains: Tensor, sweeps: int) -> Tensor:
    return torch.nn.functional.pad(gains, (0, sweeps - gains.shape[1]))
