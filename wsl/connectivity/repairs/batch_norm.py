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

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsl.params import BATCH_NORM_BUFFERS, Params, call
from wsl.symmetry import copied


def reset_batch_norm(
    model: nn.Module, params: Mapping[str, Tensor], batches: Iterable[Tensor | tuple[Tensor, ...]]
) -> Params:
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
    for norm, names in norms.items():
        norm.momentum = None  # a cumulative average: every batch counts alike
        norm.train()
        for name in names:
            _restart(fresh, name)
    _measure(network, fresh, batches)
    for names in norms.values():
        # of a module under several names the last is the one that is read and written, see `call`
        measured = [names[-1] + buffer for buffer in BATCH_NORM_BUFFERS]
        fresh |= {
            name + buffer: fresh[source].clone()
            for name in names[:-1]
            for buffer, source in zip(BATCH_NORM_BUFFERS, measured, strict=True)
        }
        _check_measured(fresh, names[-1])
    return fresh


def _measure(
    network: nn.Module, params: Params, batches: Iterable[Tensor | tuple[Tensor, ...]]
) -> None:
    """Run every batch once; batch norm writes to ``params`` what it sees."""
    seen = 0
    for batch in batches:
        inputs = _inputs(batch)
        try:
            with torch.no_grad():
                call(network, params, inputs)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"reset_batch_norm: the model does not run on inputs of shape "
                f"{tuple(inputs.shape)} and type {inputs.dtype}: {error}"
            ) from error
        seen += 1
    if not seen:
        raise ValueError(
            "reset_batch_norm: no batches were given, so there is nothing to measure; was an "
            "iterator used up?"
        )


def _inputs(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """The inputs of a batch; raises ValueError for what is neither a tensor nor led by one."""
    first = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(first, Tensor):
        raise ValueError(
            "reset_batch_norm: a batch is a tensor of inputs, or a tuple or list that starts with "
            f"it, got {type(batch).__name__}"
        )
    return first


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
