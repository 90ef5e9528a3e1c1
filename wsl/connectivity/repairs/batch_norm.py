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

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsl.connectivity.repairs.batches import Batches, check_some, first_of
from wsl.params import BATCH_NORM_BUFFERS, Params, call
from wsl.symmetry import copied


def reset_batch_norm(model: nn.Module, params: Mapping[str, Tensor], batches: Batches) -> Params:
    """``params`` of one checkpoint with batch-norm statistics measured on ``batches``.

    Nothing is changed in place. A batch is a tensor of inputs, or a tuple or list that starts with
    it, as data loaders yield. A missing ``num_batches_tracked`` starts at 0. Raises ValueError when
    there is batch norm and no batch, and when what is measured is not finite.
    """
    fresh = {name: tensor.detach().clone() for name, tensor in params.items()}
    network = copied(model).eval()
    norms = _batch_norms(network)
    if not norms:
        return fresh
    for norm, prefixes in norms.items():
        norm.momentum = None  # a cumulative average: every batch counts alike
        norm.train()
        for prefix in prefixes:
            _restart(fresh, prefix)
    _measure(network, fresh, batches)
    for prefixes in norms.values():
        _share(fresh, prefixes)
        _check_measured(fresh, prefixes[-1])
    return fresh


def _share(params: Params, prefixes: list[str]) -> None:
    """Copy to all names of a module what was measured under the last.

    That is the one that is read and written, see `call`.
    """
    for prefix in prefixes[:-1]:
        for buffer in BATCH_NORM_BUFFERS:
            params[prefix + buffer] = params[prefixes[-1] + buffer].clone()


def _measure(network: nn.Module, params: Params, batches: Batches) -> None:
    """Run every batch once; batch norm writes to ``params`` what it sees."""
    seen = 0
    for batch in batches:
        inputs = first_of(batch, "reset_batch_norm")
        try:
            with torch.no_grad():
                call(network, params, inputs)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"reset_batch_norm: the model does not run on inputs of shape "
                f"{tuple(inputs.shape)} and type {inputs.dtype}: {error}"
            ) from error
        seen += 1
    check_some(seen, "reset_batch_norm")


def _batch_norms(network: nn.Module) -> dict[_BatchNorm, list[str]]:
    """The modules that keep running statistics, each with all prefixes it is registered under."""
    found: dict[_BatchNorm, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            found.setdefault(module, []).append(f"{name}." if name else "")
    return found


def _restart(params: Params, prefix: str) -> None:
    mean, variance, counter = (f"{prefix}{buffer}" for buffer in BATCH_NORM_BUFFERS)
    for name in (mean, variance):
        if name not in params:
            raise ValueError(
                f"{name}: the model has it, but the weights do not; include buffers, see "
                "params.from_module"
            )
    params[mean].zero_()
    params[variance].fill_(1)
    # files from before there were counters have none; it starts anew in any case
    fresh = torch.zeros((), dtype=torch.long, device=params[mean].device)
    params[counter] = torch.zeros_like(params.get(counter, fresh))


def _check_measured(params: Params, prefix: str) -> None:
    """Raise ValueError for statistics that no network can run with."""
    for buffer in BATCH_NORM_BUFFERS[:2]:
        if not params[f"{prefix}{buffer}"].isfinite().all():
            raise ValueError(
                f"{prefix}{buffer}: what was measured is not finite; the inputs or the weights "
                "hold NaN or infinite values, overflow, or a batch has one value for a channel"
            )
