"""The graph of a specification, and what a network on it knows of each tensor of weights.

    h_v <- x_v,   then some rounds of   g_u = mean_{(v, a) on u} A_a h_v,
                                        h_v <- GRU( sum_{(u, a) at v} B_a g_u, h_v )

A node v is a tensor of weights, an edge group u the units that several tensors share; a is the
place of the axis where v has them: outputs, inputs, or further ones. So what a tensor is told comes
along the wiring of the network, forwards and backwards. Message passing with a gated unit as in
GHN-2, Knyazev et al. (2021), section 3, arXiv 2110.13100, on tensors in place of operations.

x_v says kinds and sizes, never an index of an architecture, so that any specification has an
answer; the names of groups and of tensors do not matter beyond ``bias``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wsl.params import is_running_statistic
from wsl.symmetry import PermutationSpec

Axis = Sequence[Sequence[str | int]]
"""A concatenation of products of atoms, as in a specification."""

PLACES = ("outputs", "inputs", "others")
"""Of an axis: the first of a tensor, the second, and all after it."""


class TensorGraph(NamedTuple):
    """Tensors by name, their features (V, F), and where units meet them.

    edges: rows (group, place, tensor), one for every axis of a tensor that a group is on.
    """

    names: tuple[str, ...]
    features: Tensor
    edges: Tensor


def tensor_graph(spec: PermutationSpec) -> TensorGraph:
    """The graph of ``spec``; running statistics are not generated and are no nodes."""
    names = tuple(name for name in spec.axes if not is_running_statistic(name))
    groups = {name: i for i, name in enumerate(spec.groups)}
    edges = [
        (groups[group], place, i)
        for i, name in enumerate(names)
        for group, place in _places(spec.axes[name])
    ]
    rows = [_features(spec, name, i / max(len(names) - 1, 1)) for i, name in enumerate(names)]
    return TensorGraph(names, torch.tensor(rows), torch.tensor(edges).long().reshape(-1, 3))


def _places(axes: Sequence[Axis]) -> list[tuple[str, int]]:
    """Every group on a tensor's axes, and the place of the axis."""
    return [
        (atom, place_of(i))
        for i, axis in enumerate(axes)
        for segment in axis
        for atom in segment
        if isinstance(atom, str)
    ]


def place_of(axis: int) -> int:
    """The position in `PLACES`."""
    return min(axis, len(PLACES) - 1)


FEATURES = 13


def _features(spec: PermutationSpec, name: str, depth: float) -> list[float]:
    """Kind, sizes in octaves, which of the first two axes are fixed, and where in the network."""
    sizes, axes = [*spec.shapes[name], 1, 1], spec.axes[name]
    fixed = [float(not _moves(axis)) for axis in axes[:2]]
    octaves = [0.2 * math.log2(math.prod(part)) for part in (sizes[:1], sizes[1:2], sizes[2:])]
    return [
        *(float(min(len(axes), 4) == kind) for kind in (1, 2, 3, 4)),
        *[*fixed, 0.0, 0.0][:2],
        *octaves,
        float(name.rpartition(".")[2].startswith("bias")),
        depth,
        1 - depth,
        math.log(len(spec.axes)) / 3,
    ]


def _moves(axis: Axis) -> bool:
    """Whether units are on it."""
    return any(isinstance(atom, str) for segment in axis for atom in segment)


class GraphEncoder(nn.Module):
    """What is known of each tensor of a specification, (V, width)."""

    def __init__(self, width: int, *, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.enter = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width))
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in PLACES)
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in PLACES)
        self.update = nn.GRUCell(width, width)

    def forward(self, graph: TensorGraph) -> Tensor:
        """Features after all rounds."""
        like = next(self.parameters())
        h, edges = self.enter(graph.features.to(like)), graph.edges.to(like.device)
        for _ in range(self.rounds):
            h = self.update(self._told(h, edges), h)
        return h

    def _told(self, h: Tensor, edges: Tensor) -> Tensor:
        """What every tensor hears from those that share its units, (V, width)."""
        groups, places, tensors = edges.unbind(1)
        sent = _by_place(self.up, places, h[tensors])
        units = _mean(sent, groups, int(groups.max()) + 1 if len(groups) else 0)
        told = _by_place(self.down, places, units[groups])
        return torch.zeros_like(h).index_add(0, tensors, told)


def _by_place(maps: nn.ModuleList, places: Tensor, x: Tensor) -> Tensor:
    """Each row by the map of its place."""
    every = torch.stack([each(x) for each in maps], 1)
    return every[torch.arange(len(x)), places]


def _mean(x: Tensor, groups: Tensor, count: int) -> Tensor:
    total = x.new_zeros(count, x.shape[1]).index_add(0, groups, x)
    return total / groups.bincount(minlength=count).clamp_min(1)[:, None]
