"""`settle`: statistics of a functional's heads from training members as they are, for the weights it has now.

Averages that run along while weights move are of older weights: in the middle of a training a network may be read as if it had
learnt nothing (NFN on `mnist_inr` after one epoch: accuracy 0.18, settled 0.55). See `wsl.nn.Standardize`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wsl.nn import Standardize, settled
from wsl.params import on_device
from wsl.training.rows import in_order
from wsl.zoo import Checkpoints

_ROWS = 512


def settle(network: nn.Module, zoo: Checkpoints, rows: np.ndarray, batch_size: int) -> None:
    """Average over at most 512 of the training ``rows``, always the same, in evaluation mode, in batches.

    `fit` does so after each epoch; a loop of your own does before it evaluates. Networks without such heads are left alone.
    """
    if not any(isinstance(part, Standardize) for part in network.modules()):
        return
    some = np.random.default_rng(0).permutation(rows)[:_ROWS]
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.no_grad(), settled(network):
        for theta, _, more in in_order(network, zoo, some, batch_size):
            network(on_device(theta, device), *(code.to(device) for code in more))
    network.train(training)
