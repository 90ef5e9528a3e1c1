"""Batch-norm reset: measure the running statistics of merged weights anew on data.

    mu <- mean over batches of E_batch[x],   var <- mean over batches of Var_batch[x]

They are not the mean of the members' statistics. One pass over some training data without
gradients, with a cumulative average, as in Izmailov et al. (2018), arXiv 1803.05407, and section 4
of Jordan et al., REPAIR (2023), arXiv 2211.08403. Needs inputs, no labels. Equal to what
`nn.BatchNorm` itself accumulates from reset statistics with ``momentum=None``. Only batch norm runs
in training mode: dropout stays off. Networks without batch norm come back unchanged. It does not
rescale networks that have no batch norm (REPAIR proper does).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsl.params import Params, call


def reset_batch_norm(
    model: nn.Module, params: Mapping[str, Tensor], batches: Iterable[Tensor | tuple[Tensor, ...]]
) -> Params:
    """``params`` of one checkpoint with batch-norm statistics measured on ``batches``.

    Nothing is changed in place. A batch is a tensor of inputs, or a tuple or list that starts with
    it, as data loaders yield. Raises ValueError when there is batch norm and no batch.
    """
    fresh = {name: tensor.detach().clone() for name, tensor in params.items()}
    network = copy.deepcopy(model).eval()
    norms = _batch_norms(network)
    if not norms:
        return fresh
    for name, norm in norms.items():
        norm.momentum = None  # a cumulative average: every batch counts alike
        norm.train()
        _restart(fresh, f"{name}." if name else "")
    seen = 0
    with torch.no_grad():
        for batch in batches:
            call(network, fresh, batch if isinstance(batch, Tensor) else batch[0])
            seen += 1
    if not seen:
        raise ValueError(
            "reset_batch_norm: no batches were given, so there is nothing to measure; was an "
            "iterator used up?"
        )
    return fresh


def _batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """The modules that keep running statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _restart(params: Params, prefix: str) -> None:
    if f"{prefix}running_mean" not in params:
        raise ValueError(
            f"{prefix}running_mean: the model has it, but the weights do not; include buffers, "
            "see params.from_module"
        )
    params[f"{prefix}running_mean"].zero_()
    params[f"{prefix}running_var"].fill_(1)
    params[f"{prefix}num_batches_tracked"].zero_()
