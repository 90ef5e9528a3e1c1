"""Sparsifiers of task vectors: which entries of each member's change are kept.

    keep_largest     the share ``density`` of entries with the largest modulus     (TIES)
    drop_outliers    the same without the share ``gamma`` of the very largest      (Breadcrumbs)
    keep_random      each with probability ``density``, divided by it              (DARE)
    keep_ranked      each with a probability that grows with its rank, divided     (DELLA)

All take task vectors (T, *shape) and return them with zeros; ``density`` is one number, or one for
each member. Entries that tie with the smallest one kept are kept too, so that a permutation of the
units makes no difference. A tensor keeps at least one entry, however small its share is. What is
kept by rank has its limits first (`least_kept`, `band`), which need all entries, and then each
entry is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsl.merging.pieces.entries import Blocks, Entries
from wsl.merging.pieces.randomness import uniform_like
from wsl.merging.pieces.selection import at_ranks

Density = float | Sequence[float]
"""A share of entries, of all members or of each."""


def check_density(density: Density, *, method: str) -> None:
    """Raise ValueError unless every share of entries lies in (0, 1]."""
    for share in density if isinstance(density, Sequence) else [density]:
        if not 0 < share <= 1:
            raise ValueError(f"{method}: density must lie in (0, 1], got {density}")


def keep_largest(tau: Tensor, density: Density) -> Tensor:
    """The entries of largest modulus of every member."""
    return from_least(tau, least_kept(_whole(tau).mapped(torch.abs), density, len(tau)))


def drop_outliers(tau: Tensor, density: Density, *, gamma: float) -> Tensor:
    """The share ``density`` that remains without the largest and with the smallest dropped."""
    return within(tau, band(_whole(tau), density, gamma=gamma))


def least_kept(values: Blocks, density: Density, members: int) -> Tensor:
    """The smallest of the share ``density`` of largest values, of each member: (T,)."""
    ranks = [[_count(values.size, share)] for share in _each(members, density)]
    return at_ranks(values, ranks)[:, 0]


def from_least(tau: Tensor, least: Tensor) -> Tensor:
    """The entries whose modulus is no less than (T,)."""
    return tau * (tau.abs() >= _beside(tau, least))  # a third of the time that torch.where takes


def band(tau: Entries, density: Density, *, gamma: float) -> Tensor:
    """The smallest modulus that `drop_outliers` keeps, and the smallest that it drops: (T, 2)."""
    ranks, none = [], []
    for share in _each(tau.count, density):
        kept = _count(tau.size, share)
        # int() as the field does: a tensor with fewer than 1 / gamma entries has no outliers
        dropped = min(int(gamma * tau.size), tau.size - kept)
        ranks.append([dropped + kept, max(dropped, 1)])
        none.append(dropped == 0)
    found = at_ranks(tau.mapped(torch.abs), ranks)
    found[torch.tensor(none), 1] = torch.inf
    return found


def within(tau: Tensor, limits: Tensor) -> Tensor:
    """The entries whose modulus is between (T, 2): no less than the first, less than the second."""
    modulus, (low, high) = tau.abs(), limits.unbind(1)
    inside = (modulus >= _beside(tau, low)) & (modulus < _beside(tau, high))
    return tau * inside


def keep_random(tau: Tensor, density: Density, *, seed: int, name: str) -> Tensor:
    """A random part, such that the expectation is the task vector itself."""
    return _kept(tau, torch.zeros_like(tau) + _along(tau, density), seed=seed, name=name)


def keep_ranked(tau: Tensor, density: Density, *, epsilon: float, seed: int, name: str) -> Tensor:
    """A random part that prefers large entries of each row, with the right expectation."""
    return _kept(tau, _along(tau, density) + epsilon * _ranks(tau), seed=seed, name=name)


def _kept(tau: Tensor, chance: Tensor, *, seed: int, name: str) -> Tensor:
    return torch.where(uniform_like(tau, seed=seed, name=name) < chance, tau / chance, 0)


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


def _each(count: int, density: Density) -> Sequence[float]:
    """One share for each member; raises ValueError for another number of them."""
    told = density if isinstance(density, Sequence) else [density] * count
    if len(told) != count:
        raise ValueError(f"got {len(told)} densities for {count} members; give one for each")
    return told


def _along(tau: Tensor, density: Density) -> Tensor:
    return _beside(tau, tau.new_tensor(_each(len(tau), density)))


def _beside(tau: Tensor, values: Tensor) -> Tensor:
    """One value for each member (T,), to compare with (T, *shape)."""
    return values.view(-1, *[1] * (tau.dim() - 1))


def _whole(tau: Tensor) -> Entries:
    return Entries([list(tau)])


def _count(size: int, density: float) -> int:
    # int() as in the public implementations; 1e-9 because 0.9 * 1000 may be 899.999...
    return max(1, int(density * size + 1e-9))
