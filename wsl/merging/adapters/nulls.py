"""Null arms of a merge of adapters: what any change of the same size would do.

    random   at every weight a change of the same rank and norm, with random factors
    mean     (1/T) sum_t dW_t                       zero   the base itself

Among a thousand public adapters, which of them were merged hardly mattered, and random ones did
about as well (arXiv 2602.12323, ICML 2026). A merge is worth something where it beats all three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from wsl.merging.adapters.adapter import Adapter, combine
from wsl.merging.adapters.lowrank import LowRank


def random_like(adapter: Adapter, generator: torch.Generator) -> Adapter:
    """Random changes of the same weights with the same ranks and Frobenius norms.

    Biases are drawn alike; magnitudes and whole tensors are kept.
    """
    changes = {name: _drawn(change, generator) for name, change in adapter.changes.items()}
    biases = {name: _of_norm(bias, generator) for name, bias in adapter.biases.items()}
    return dataclasses.replace(adapter, changes=changes, biases=biases, source="random")


def mean_adapter(adapters: Sequence[Adapter]) -> Adapter:
    """The exact mean of all; raises ValueError as `combine`."""
    return combine(adapters, [1 / len(adapters)] * len(adapters))


def _drawn(change: LowRank, generator: torch.Generator) -> LowRank:
    b, a = (torch.randn(part.shape, generator=generator) for part in (change.b, change.a))
    found = LowRank(b.to(change.b.device), a.to(change.a.device), 1.0, change.shape)
    size = found.norm()
    return found * (change.norm() / size if size else 0.0)


def _of_norm(tensor: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    return (drawn * (tensor.double().norm() / drawn.double().norm().clamp(min=1e-30))).to(tensor)
