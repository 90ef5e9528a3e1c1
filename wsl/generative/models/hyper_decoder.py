"""Weights from an embedding, axis by axis: what a hyper-network ends in.

    W(t)_{i j ...}  =  B_{i j ...} + sum_k (M t)_k  E_{ik} F_{jk} ...

B is learned, and so are a vector of every entry of every axis (E, F, ...) and a matrix M of every
tensor: Ha et al. (2016), arXiv 1609.09106, with a low rank in place of one layer for all weights.
Hidden units keep one vector in all the tensors they touch. On the axis of classes nothing is
learned: row c is made from the embedding of class c, by one rule for all, so that another order of
the classes is the same weights in that order. What batch norm measures is not generated: it stays
as in a new network, where scale and shift can still give every affine map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from wsl.generative.conditions import AxisFeatures, TaskEmbedding
from wsl.params import Params, is_running_statistic, is_running_variance
from wsl.symmetry import PermutationSpec, format_axis


class AxisDecoder(nn.Module):
    """Weights (N, ...) of ``axes.spec`` from `TaskEmbedding` of ``width`` numbers.

    by_class: whether rows of the class axis are made from the classes; otherwise they have vectors
    of their own and only the embedding of the task counts.
    """

    def __init__(self, axes: AxisFeatures, *, width: int, rank: int, by_class: bool) -> None:
        super().__init__()
        spec = axes.spec
        self.axes, self.by_class = axes, by_class
        self.names = [name for name in spec.axes if not is_running_statistic(name)]
        # a list, since names of tensors hold dots and those of parameters may not
        self.base = nn.ParameterList(torch.zeros(self._shape(name)) for name in self.names)
        self.mix = nn.ModuleList(
            # what is learned is small beside the base at first
            _small(width, rank, fan_in=math.prod(self._shape(name)[1:]))
            for name in self.names
        )
        keys = {key: size for name in self.names for key, size in self._keys(name)}
        self.place = {key: i for i, key in enumerate(keys)}
        self.vectors = nn.ParameterList(torch.randn(size, rank) for size in keys.values())

    def start_from(self, params: Mapping[str, Tensor]) -> None:
        """Take one network's weights as the base, and its first class for the rule of all."""
        with torch.no_grad():
            for name, base in zip(self.names, self.base, strict=True):
                base.copy_(params[name][0] if self._rows(name) else params[name])

    def forward(self, embedding: TaskEmbedding) -> Params:
        """Weights of every task; running statistics are those of a new network."""
        n, found = len(embedding.task), {}
        for name, base, mix in zip(self.names, self.base, self.mix, strict=True):
            told = embedding.classes if self._rows(name) else embedding.task
            found[name] = base + self._change(name, mix(told))
        return {
            name: found[name]
            if name in found
            else new_statistic(name, n, shape, like=embedding.task)
            for name, shape in self.axes.spec.shapes.items()
        }

    def _change(self, name: str, coefficients: Tensor) -> Tensor:
        """Sum over k of coefficients (N, [classes,] rank) times the axes' vectors."""
        factors = [self.vectors[self.place[key]] for key, _ in self._keys(name)]
        if not factors:
            return coefficients.sum(-1)
        if len(factors) > 1:
            first, *factors = factors
            coefficients = coefficients[..., None, :] * first
        made = coefficients @ _products(factors).T
        return made.reshape(*coefficients.shape[: 2 if self._rows(name) else 1], *self._shape(name))

    def _rows(self, name: str) -> bool:
        return self.by_class and name in self.axes.classes

    def _shape(self, name: str) -> torch.Size:
        shape = self.axes.spec.shapes[name]
        return shape[1:] if self._rows(name) else shape

    def _keys(self, name: str) -> list[tuple[str, int]]:
        """Of each axis that has vectors: by whom they are shared, and how many there are."""
        spec: PermutationSpec = self.axes.spec
        keys = []
        for i, axis in enumerate(spec.axes[name]):
            if self._rows(name) and i == 0:
                continue
            moves = any(isinstance(atom, str) for segment in axis for atom in segment)
            keys.append((format_axis(axis) if moves else f"{name}[{i}]", spec.axis_size(axis)))
        return keys


def _products(factors: list[Tensor]) -> Tensor:
    """All products of one vector of each factor, (size_1 ... size_r, rank), the last fastest."""
    found = factors[-1]
    for factor in reversed(factors[:-1]):
        found = (factor[:, None] * found).flatten(0, 1)
    return found


def new_statistic(name: str, n: int, shape: torch.Size, *, like: Tensor) -> Tensor:
    """A running statistic before anything was measured: mean 0, variance 1, no batches."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((n, *shape), dtype=torch.long, device=like.device)
    return torch.full((n, *shape), float(is_running_variance(name))).to(like)


def _small(width: int, rank: int, *, fan_in: int) -> nn.Linear:
    # rank 0 has nothing to draw, of which the layer's own initialisation would warn
    made = cast(nn.Linear, nn.utils.skip_init(nn.Linear, width, rank))
    nn.init.normal_(made.weight, std=0.1 / math.sqrt(max(rank, 1) * width * fan_in))
    nn.init.zeros_(made.bias)
    return made
