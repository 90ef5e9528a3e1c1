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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-5
"""Added to variances, as torch's batch normalisation does."""


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
        self.shared: int | None = None
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, z: Tensor) -> Tensor:
        """Statistics of the batch in training mode if it has two members or more, else running."""
        members = len(z) if self.shared is None else self.shared
        collects, momentum = members > 1 and (self.training or self.counted is not None), 0.1
        if collects and self.counted is not None:
            self.counted += members
            momentum = members / self.counted
        if collects and self.shared is not None:
            return self._over_processes(z, momentum)
        return F.batch_norm(z, self.mean, self.variance, training=collects, momentum=momentum)

    def _over_processes(self, z: Tensor, momentum: float) -> Tensor:
        """What `F.batch_norm` does, with sums over the parts that all processes hold."""
        members, exact = float(self.shared or 0), z.float() if z.dtype != torch.float64 else z
        mean = _Total.apply(exact.sum(0)) / members
        centred = exact - mean
        variance = _Total.apply(centred.square().sum(0)) / members
        with torch.no_grad():
            unbiased = variance * members / (members - 1)
            self.mean.lerp_(mean.to(self.mean), momentum)
            self.variance.lerp_(unbiased.to(self.variance), momentum)
        return (centred * (variance + EPSILON).rsqrt()).to(z.dtype)


class _Total(torch.autograd.Function):
    """The sum of a tensor over all processes, each of which may use it in its loss."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004 - torch's interface
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:  # noqa: ARG004
        return _Total.apply(slopes[0])


@contextmanager
def shared_batch(network: nn.Module, members: int | None) -> Iterator[None]:
    """Within it, what ``network`` reads is this process's part of a batch of ``members``.

    Its heads then standardise over the batch of all processes, in which each must take part. None
    is a batch that the process has for itself, as outside.
    """
    parts = [part for part in network.modules() if isinstance(part, Standardize)]
    for part in parts:
        part.shared = members
    try:
        yield
    finally:
        for part in parts:
            part.shared = None


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
