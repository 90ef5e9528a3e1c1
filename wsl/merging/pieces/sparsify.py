"""Sparsifiers of task vectors: which entries of each member's change are kept.

    keep_largest     the share ``density`` of entries with the largest modulus     (TIES)
    drop_outliers    the same without the share ``gamma`` of the very largest      (Breadcrumbs)
    keep_random      each with probability ``density``, divided by it              (DARE)
    keep_ranked      each with a probability that grows with its rank, divided     (DELLA)

All take task vectors (T, *shape) and return them with zeros; ``density`` is one number, or one for
each member. Entries that tie with the smallest one kept are kept too, so that a permutation of the
units makes no difference. A tensor keeps at least one entry, however small its share is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wsl.merging.pieces.randomness import uniform_like

Density = float | Sequence[float]
"""A share of entries, of all members or of each."""


def check_density(density: Density, *, method: str) -> None:
    """Raise ValueError unless every share of entries lies in (0, 1]."""
    for share in density if isinstance(density, Sequence) else [density]:
        if not 0 < share <= 1:
            raise ValueError(f"{method}: density must lie in (0, 1], got {density}")


def keep_largest(tau: Tensor, density: Density) -> Tensor:
    """The entries of largest modulus of every member."""
    modulus = _flat(tau)
    least = [
        _at_rank(row, _count(row, d)) for row, d in zip(modulus, _each(tau, density), strict=True)
    ]
    return torch.where(modulus >= torch.stack(least)[:, None], tau.view_as(modulus), 0).view_as(tau)


def drop_outliers(tau: Tensor, density: Density, *, gamma: float) -> Tensor:
    """The share ``density`` that remains without the largest and with the smallest dropped."""
    modulus = _flat(tau)
    inside = [_band(row, d, gamma) for row, d in zip(modulus, _each(tau, density), strict=True)]
    return torch.where(torch.stack(inside), tau.view_as(modulus), 0).view_as(tau)


def keep_random(tau: Tensor, density: Density, *, seed: int, name: str) -> Tensor:
    """A random part, such that the expectation is the task vector itself."""
    return _kept(tau, torch.zeros_like(tau) + _along(tau, density), seed=seed, name=name)


def keep_ranked(tau: Tensor, density: Density, *, epsilon: float, seed: int, name: str) -> Tensor:
    """A random part that prefers large entries of each row, with the right expectation."""
    return _kept(tau, _along(tau, density) + epsilon * _ranks(tau), seed=seed, name=name)


def _kept(tau: Tensor, chance: Tensor, *, seed: int, name: str) -> Tensor:
    return torch.where(uniform_like(tau, seed=seed, name=name) < chance, tau / chance, 0)


def _band(modulus: Tensor, density: float, gamma: float) -> Tensor:
    kept = _count(modulus, density)
    # int() as the field does: a tensor with fewer than 1 / gamma entries has no outliers
    dropped = min(int(gamma * len(modulus)), len(modulus) - kept)
    inside = modulus >= _at_rank(modulus, dropped + kept)
    return inside & (modulus < _at_rank(modulus, dropped)) if dropped else inside


def _ranks(tau: Tensor) -> Tensor:
    """The rank of the modulus of each entry in its row, from -1 to 1; 0 where a row has one entry.

    A row is what belongs to one unit: the first axis against all others. A vector is one row.
    """
    rows = tau.flatten(2) if tau.dim() > 2 else tau.reshape(len(tau), 1, -1)
    last = rows.shape[2] - 1
    if last < 1:
        return torch.zeros_like(tau)
    order = rows.abs().argsort(dim=2, stable=True)
    numbers = torch.arange(last + 1, device=tau.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(2, order, numbers)
    return (ranks.to(tau.dtype) * (2 / last) - 1).view_as(tau)


def _each(tau: Tensor, density: Density) -> Sequence[float]:
    """One share for each member; raises ValueError for another number of them."""
    told = density if isinstance(density, Sequence) else [density] * len(tau)
    if len(told) != len(tau):
        raise ValueError(f"got {len(told)} densities for {len(tau)} members; give one for each")
    return told


def _along(tau: Tensor, density: Density) -> Tensor:
    return tau.new_tensor(_each(tau, density)).view(-1, *[1] * (tau.dim() - 1))


def _flat(tau: Tensor) -> Tensor:
    return tau.abs().reshape(len(tau), -1)


def _count(modulus: Tensor, density: float) -> int:
    # int() as in the public implementations; 1e-9 because 0.9 * 1000 may be 899.999...
    return max(1, int(density * len(modulus) + 1e-9))


def _at_rank(modulus: Tensor, rank: int) -> Tensor:
    """The ``rank``-th largest entry, by selection and not by sorting: linear time."""
    place = len(modulus) - rank
    if modulus.device.type != "cpu":
        return modulus.kthvalue(place + 1).values
    # numpy's selection takes a third to a half of the time of torch's
    return modulus.new_tensor(np.partition(modulus.numpy(), place)[place])
