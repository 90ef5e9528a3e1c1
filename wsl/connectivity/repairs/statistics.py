"""Batch-norm statistics of merged weights, measured in the same sweep that repairs the rest.

    mean' = m + s sum_i lambda_i (mean_i - m_i) / s_i
    var' + eps = s^2 exp(sum_i lambda_i log((var_i + eps) / s_i^2))

m and s are what the batches show in the merged network, m_i and s_i what they show in the members,
and mean_i, var_i the statistics that the members keep. With members whose statistics are those of
the batches it is what `reset_batch_norm` measures; otherwise the few batches err in the members as
in the merged network, which cancels, and a network that is its own only member stays as it is.
Channels that do not vary somewhere keep their variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsl.connectivity.repairs.lockstep import Lockstep
from wsl.connectivity.repairs.moments import Moments, moments
from wsl.connectivity.repairs.program import bound
from wsl.connectivity.repairs.writers import Writer


def measure(run: Lockstep, writer: Writer, weights: Sequence[float]) -> None:
    """Write the statistics of a batch norm that is about to run on the merged network."""
    if writer.statistics is None:
        return
    arguments = bound(writer.node)
    read, eps = arguments["input"], float(arguments["eps"])
    own = moments(run.own[read], 1)
    theirs = [moments(values, 1) for values in run.theirs[read]]
    mean, variance = writer.statistics
    kept = [(member[mean].double(), member[variance].double()) for member in run.members]
    told = _off(weights, theirs, kept, eps=eps)
    varies = torch.stack([~each.dead for each in (own, *theirs)]).all(0)
    _write(run.params, (mean, variance), own=own, told=told, varies=varies, eps=eps)


def _off(
    weights: Sequence[float],
    theirs: Sequence[Moments],
    kept: Sequence[tuple[Tensor, Tensor]],
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """How far kept means lie from measured ones, in deviations, and log ratios of variances.

    Both are the weighted means over the members.
    """
    shift, log_ratio = torch.zeros_like(theirs[0].mean), torch.zeros_like(theirs[0].mean)
    for weight, each, (mean, variance) in zip(weights, theirs, kept, strict=True):
        std = torch.where(each.dead, 1.0, each.std)
        shift += weight * (mean - each.mean) / std
        log_ratio += weight * ((variance + eps) / std.square()).log()
    return shift, log_ratio


def _write(
    params: dict[str, Tensor],
    names: tuple[str, str],
    *,
    own: Moments,
    told: tuple[Tensor, Tensor],
    varies: Tensor,
    eps: float,
) -> None:
    (mean, variance), (shift, log_ratio) = (params[name] for name in names), told
    new_mean = torch.where(varies, own.mean + own.std * shift, mean.double())
    new_variance = (own.std.square() * log_ratio.exp() - eps).clamp(min=0)
    params[names[0]] = new_mean.to(mean)
    params[names[1]] = torch.where(varies, new_variance, variance.double()).to(variance)
