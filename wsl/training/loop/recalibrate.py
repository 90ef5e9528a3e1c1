"""`recalibrate`: statistics of a functional's heads for the weights it has now.

Averages that run along while weights move are of older weights: in the middle of a training a
network may be read as if it had learnt nothing (NFN on `mnist_inr` after one epoch: accuracy 0.18,
recalibrated 0.55). See `wsl.nn.Standardize`.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from wsl.nn import Standardize, recalibrated
from wsl.params import Params
from wsl.training.loop.evaluate import reading


def recalibrate(network: nn.Module, batches: Iterable[tuple[Params, tuple[Tensor, ...]]]) -> None:
    """Average over ``batches`` of weights and codes, such as training reads, in evaluation mode.

    `fit` does so after each epoch; a loop of your own does before it evaluates. Networks without
    such heads are left alone, and their batches not read.
    """
    if not any(isinstance(part, Standardize) for part in network.modules()):
        return
    with reading(network) as read, recalibrated(network):
        for theta, more in batches:
            read(theta, more)
