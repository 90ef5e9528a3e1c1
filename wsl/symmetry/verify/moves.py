"""A group element as index tensors, tensor by tensor: only what moves, and nothing of the weights.

    moved(theta[name], moves[name])[.., i, ..] = theta[name][.., index[i], ..]

for every axis in ``moves[name]``. So an element can act on a large network in place, one tensor
after the other, and be undone by its inverse bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Axis

Moves = Mapping[str, Mapping[int, Tensor]]
"""For each tensor that moves, an index for each of its axes that moves."""


def moves_of(g: Permutation) -> Moves:
    """What an element does, without the axes on which it is the identity."""
    moving = {name for name, index in g.indices.items() if not _is_identity(index)}
    axis_index = functools.cache(lambda axis: _axis_index(g, axis))
    moves: dict[str, dict[int, Tensor]] = {}
    for name, axes in g.spec.annotations:
        for i, axis in enumerate(axes):
            if not moving.isdisjoint(atom for segment in axis for atom in segment):
                moves.setdefault(name, {})[i] = axis_index(axis)
    return moves


def _axis_index(g: Permutation, axis: Axis) -> Tensor:
    index = g.axis_index(axis)
    return torch.arange(g.spec.axis_size(axis)) if index is None else index


def moved(tensor: Tensor, axes: Mapping[int, Tensor]) -> Tensor:
    """One tensor, gathered along some of its axes."""
    for axis, index in axes.items():
        tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor


def inverse(moves: Moves) -> Moves:
    """What undoes it."""
    return {
        name: {axis: index.argsort() for axis, index in axes.items()}
        for name, axes in moves.items()
    }


def _is_identity(index: Tensor) -> bool:
    return torch.equal(index, torch.arange(index.shape[-1]).expand_as(index))
