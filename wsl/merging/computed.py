"""Tensors that say how others are used: masks of pruning, vectors of spectral norms.

    pruning          W = weight_orig * mask
    spectral norm    W = weight_orig / (u^T M v),  M its matrix, u and v of length one

No mean of masks is a mask, and no mean of unit vectors has length one. So masks are applied before
the merge, and afterwards a mask is where any of the networks has weights: what is merged computes
with the mean of what its parents compute with. u and v are the first singular vectors of the merged
matrix, to which the power iteration of Miyato et al. (2018), section 2.1, arXiv 1802.05957,
converges, so that the merged matrix has norm one.

Guaranteed: masks stay zero or one. Not done: the direction and length of weight norm are merged as
the parameters that they are, and a sparsity that the parents have is not kept where their masks
differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.params import Params

_MASK = re.compile(r"(?P<stem>.+)_mask")
_SPECTRAL = (
    (re.compile(r"(?P<stem>.+)_u"), "{stem}_orig", "{stem}_v"),
    (
        re.compile(r"(?P<stem>(.+\.)?parametrizations\.\w+)\.(?P<place>\d+)\._u"),
        "{stem}.original",
        "{stem}.{place}._v",
    ),
)


class _Spectral(NamedTuple):
    """Names of a weight and of its two vectors."""

    weight: str
    u: str
    v: str


def masked(theta: Mapping[str, Tensor]) -> Params:
    """Weights with the masks of pruning applied: what the network computes with."""
    applied = {orig: theta[orig] * theta[mask].to(theta[orig]) for orig, mask in _masks(theta)}
    return {name: applied.get(name, tensor) for name, tensor in theta.items()}


def renewed(merged: Mapping[str, Tensor], members: Sequence[Mapping[str, Tensor]]) -> Params:
    """What ``members`` were merged to, with masks of zeros and ones, and spectral vectors that are
    those of the merged weights.

    A mask is one where the merged one is not zero; what all members have in common stays.
    """
    made = dict(merged)
    for _, mask in _masks(merged):
        made[mask] = (merged[mask] != 0).to(merged[mask])
    for names in spectral_norms(merged):
        if any(_differs(name, members) for name in names):
            made[names.u], made[names.v] = _singular(*(merged[name] for name in names))
    return made


def _differs(name: str, members: Sequence[Mapping[str, Tensor]]) -> bool:
    return any(not torch.equal(members[0][name], member[name]) for member in members[1:])


def _masks(theta: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names of pruned weights and of their masks, as `torch.nn.utils.prune` has them."""
    for name in theta:
        found = _MASK.fullmatch(name)
        if found and (orig := f"{found['stem']}_orig") in theta:
            yield orig, name


def spectral_norms(theta: Mapping[str, Tensor]) -> list[_Spectral]:
    """The spectral norms of a checkpoint, as both of torch's ways to have them name their parts."""
    found: list[_Spectral] = []
    for name in theta:
        for pattern, weight, v in _SPECTRAL:
            if match := pattern.fullmatch(name):
                parts = match.groupdict()
                found.append(_Spectral(weight.format(**parts), name, v.format(**parts)))
    return [names for names in found if names.weight in theta and names.v in theta]


def _singular(weight: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The first singular vectors of the matrix of a weight, on the side of ``u`` and ``v``.

    Which axis is the matrix's rows is not written down: transposed convolutions have another. It is
    one that fits the lengths, and of several the one under which u^T M v is largest.
    """
    wide = weight.double()
    fitting = [i for i, n in enumerate(wide.shape) if (n, wide.numel() // n) == (len(u), len(v))]
    matrices = [wide.movedim(i, 0).flatten(1) for i in fitting]
    if not matrices:
        return u, v
    matrix = max(matrices, key=lambda m: float((u.double() @ m @ v.double()).abs()))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sign = 1.0 if float(left[:, 0] @ u.double()) >= 0 else -1.0
    return (sign * left[:, 0]).to(u), (sign * right[0]).to(v)
