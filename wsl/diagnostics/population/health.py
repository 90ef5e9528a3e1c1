"""What is wrong with members of a population: not finite, dead, out of scale, or there twice.

    dead       rows of a learned tensor's first axis whose entries are all zero, two axes or more
    extreme    |log ||theta_i|| - median| > 6 * 1.4826 * median |log ||theta|| - median|
    twice      equal weights of different members; or equal up to the order of their units
    leak       such members in different splits

Members that are equal up to order have the same sorted entries in every tensor; those that have are
proved to be the same by matching. Guarantees: what is called a duplicate is one, bit for bit. Not
guaranteed: that matching finds the element that makes two members equal, where there is one.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from wsl.diagnostics.population.rows import member_weights
from wsl.matching import match
from wsl.zoo import Checkpoints

_EXTREME = 6 * 1.4826
"""Median absolute deviations: six standard deviations of a normal distribution."""

Rows = tuple[tuple[int, ...], ...]
"""Sets of rows that hold the same network."""


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationHealth:
    """One value for each of N rows, and sets of rows that are the same.

    norm: (N,) Euclidean norm of the learned weights.
    not_finite: (N,) int64, entries that are NaN or infinite.
    dead: (N,) int64, rows of matrices that are all zero.
    extreme: (N,) bool, norms far from all others.
    duplicates: sets of rows with equal bytes, of more than one member.
    reordered: sets that are equal up to the order of units, and not as they are.
    leaks: those of both that more than one split holds.
    """

    norm: Tensor
    not_finite: Tensor
    dead: Tensor
    extreme: Tensor
    duplicates: Rows
    reordered: Rows
    leaks: Rows


def population_health(zoo: Checkpoints) -> PopulationHealth:
    """Look at every row of ``zoo``; see the head of the module for what is found."""
    block = zoo.gather(np.arange(len(zoo)))
    params = zoo.header.layout.unpack(block)
    matrices = [t for n, t in params.items() if n not in zoo.buffers and t.dim() > 2]
    dead = sum(((t.flatten(2) == 0).all(2).sum(1) for t in matrices), torch.zeros(len(zoo)).long())
    norm = member_weights(zoo).double().norm(dim=1)
    duplicates = _several_members(zoo, _equal(_digests(block[:, None])))
    reordered = _reordered(zoo, params, duplicates)
    return PopulationHealth(
        norm=norm,
        not_finite=(~block.isfinite()).sum(1),
        dead=dead,
        extreme=_outside(norm),
        duplicates=duplicates,
        reordered=reordered,
        leaks=tuple(s for s in (*duplicates, *reordered) if len({*zoo.table["split"][[*s]]}) > 1),
    )


def _outside(norm: Tensor) -> Tensor:
    """Which norms are extreme; those that are not finite are."""
    logs = norm.clamp_min(torch.finfo(norm.dtype).tiny).log()
    finite = logs[logs.isfinite()]
    if not len(finite):
        return torch.ones(len(norm), dtype=torch.bool)
    middle = finite.median()
    reach = _EXTREME * (finite - middle).abs().median()
    # where half of all norms agree to the last digits, rounding alone is no news
    return ~((logs - middle).abs() <= reach.clamp_min(1e-6))


def _digests(rows: Tensor) -> list[bytes]:
    """A digest of the bytes of each row."""
    values = rows.contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in values]


def _equal(keys: Iterable[bytes]) -> Rows:
    """Sets of places with the same key, of two or more."""
    places = collections.defaultdict(list)
    for i, key in enumerate(keys):
        places[key].append(i)
    return tuple(tuple(rows) for rows in places.values() if len(rows) > 1)


def _several_members(zoo: Checkpoints, sets: Rows) -> Rows:
    """Those sets that hold more than one member: one that did not move is no duplicate."""
    member = zoo.table["member"]
    return tuple(rows for rows in sets if len({*member[[*rows]]}) > 1)


def _reordered(zoo: Checkpoints, params: dict[str, Tensor], duplicates: Rows) -> Rows:
    """Sets of rows that are equal after matching to their first, less what repeats exactly."""
    if not zoo.spec.groups:
        return ()
    again = {row for rows in duplicates for row in rows[1:]}
    kept = [i for i in range(len(zoo)) if i not in again]
    ordered = [t[kept].reshape(len(kept), -1).sort(1).values for t in params.values()]
    digests = [b"".join(parts) for parts in zip(*map(_digests, ordered), strict=True)]
    alike = [tuple(kept[i] for i in rows) for rows in _equal(digests)]
    proved = [_proved(zoo, rows) for rows in _several_members(zoo, tuple(alike))]
    return _several_members(zoo, tuple(rows for rows in proved if len(rows) > 1))


def _proved(zoo: Checkpoints, rows: Sequence[int]) -> tuple[int, ...]:
    """The rows that are the first one, bit for bit, once their units are in its order."""
    first, _ = zoo[rows[0]]
    if not all(tensor.isfinite().all() for tensor in first.values()):
        return ()
    return (rows[0], *(row for row in rows[1:] if _same(zoo, first, row)))


def _same(zoo: Checkpoints, first: dict[str, Tensor], row: int) -> bool:
    theta, _ = zoo[row]
    moved = match(zoo.spec, first, theta)(theta)
    return all(torch.equal(moved[name], tensor) for name, tensor in first.items())
