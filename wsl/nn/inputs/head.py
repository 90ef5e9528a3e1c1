"""Heads: from invariant features to predictions.

    f(z) = MLP((z - mean) / std)

Means over many weights differ little between networks, next to a large part that all share.
Standardising each feature over the batch (batch normalisation without scale and shift, Ioffe and
Szegedy 2015, arXiv 1502.03167) lets the head see the differences from the first step; without it
training on implicit neural representations stands still for many epochs. In training mode the
members of a batch therefore see each other; a batch of one, and evaluation, use running statistics.
These lag behind weights that move, by many deviations of such features, so they are `recalibrated`
before the network is evaluated (Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv
2105.07576).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with GELU and dropout between them."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.GELU(), nn.Dropout(dropout)] if i else []
        layers.append(nn.Linear(widths[i], widths[i + 1]))
    return nn.Sequential(*layers)


class Standardize(nn.Module):
    """Each feature (batch, features) to mean zero and deviation one over the batch.

    Running averages have momentum 0.1.

    While it is `recalibrated`, all members count alike, and evaluation mode takes part;
    ``counted`` is how many were seen.
    """

    def __init__(self, features: int):
        super().__init__()
        self.counted: int | None = None
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, z: Tensor) -> Tensor:
        """Statistics of the batch in training mode if it has two members or more, else running."""
        collects, momentum = len(z) > 1 and (self.training or self.counted is not None), 0.1
        if collects and self.counted is not None:
            self.counted += len(z)
            momentum = len(z) / self.counted
        return F.batch_norm(z, self.mean, self.variance, training=collects, momentum=momentum)


@contextmanager
def recalibrated(network: nn.Module) -> Iterator[None]:
    """Within it, the statistics of heads are of the members that ``network`` reads, all alike."""
    parts = [part for part in network.modules() if isinstance(part, Standardize)]
    for part in parts:
        part.counted = 0
    try:
        yield
    finally:
        for part in parts:
            part.counted = None


settled = recalibrated  # its first name


def head(features: int, *widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Standardised features into a multilayer perceptron."""
    return nn.Sequential(Standardize(features), *mlp(features, *widths, dropout=dropout))
