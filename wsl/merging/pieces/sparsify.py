"""Sparsifiers of task vectors: which entries of each member's change are kept.

    keep_largest     the share ``density`` of entries with the largest modulus     (TIES)
    drop_outliers    the same without the share ``gamma`` of the very largest      (Breadcrumbs)
    keep_random      each with probability ``density``, divided by it              (DARE)
    keep_ranked      each with a probability that grows with its rank, divided     (DELLA)

All take task vectors (T, *shape) and return them with zeros. Entries that tie with the smallest one
kept are kept too, so that a permutation of the units makes no difference. A tensor keeps at least
one entry, however small ``density`` times its size is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsl.merging.pieces.randomness import uniform_like


def check_density(density: float, *, method: str) -> None:
    """Raise ValueError unless a share of entries lies in (0, 1]."""
    if not 0 < density <= 1:
        raise ValueError(f"{method}: density must lie in (0, 1], got {density}")


def keep_largest(tau: Tensor, density: float) -> Tensor:
    """The entries of largest modulus of every member."""
    kept = _count(tau, density)
    return torch.where(tau.abs() >= _at_rank(tau, kept), tau, 0)


def drop_outliers(tau: Tensor, density: float, *, gamma: float) -> Tensor:
    """The share ``density`` that remains without the largest and with the smallest dropped."""
    size = tau[0].numel()
    kept = _count(tau, density)
    # int() as the field does: a tensor with fewer than 1 / gamma entries has no outliers
    dropped = min(int(gamma * size), size - kept)
    modulus = tau.abs()
    inside = modulus >= _at_rank(tau, dropped + kept)
    if dropped:
        inside &= modulus < _at_rank(tau, dropped)
    return torch.where(inside, tau, 0)


def keep_random(tau: Tensor, density: float, *, seed: int, name: str) -> Tensor:
    """A random part, such that the expectation is the task vector itself."""
    kept = uniform_like(tau, seed=seed, name=name) < density
    return torch.where(kept, tau / density, 0)


def keep_ranked(tau: Tensor, density: float, *, epsilon: float, seed: int, name: str) -> Tensor:
    """A random part that prefers large entries of each row, with the right expectation."""
    chance = density + epsilon * _ranks(tau)
    kept = uniform_like(tau, seed=seed, name=name) < chance
    return torch.where(kept, tau / chance.to(tau.dtype), 0)


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


def _count(tau: Tensor, density: float) -> int:
    # the smallest number aside, int() as in the public implementations; 1e-9 for 0.9 * 1000
    return max(1, int(density * tau[0].numel() + 1e-9))


def _at_rank(tau: Tensor, rank: int) -> Tensor:
    """The ``rank``-th largest modulus of every member, such that it broadcasts over its tensor."""
    modulus = tau.abs().reshape(len(tau), -1)
    # selection and not sorting: linear time
    found = modulus.kthvalue(modulus.shape[1] - rank + 1, dim=1).values
    return found.view(-1, *[1] * (tau.dim() - 1))
