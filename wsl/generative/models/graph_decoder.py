"""Weights of any size from what is known of each tensor: sums of products of codes of its entries.

    W(v)_{i j ...}  =  (s_v / rms) sum_k m_k(h_v) c_{ik} c'_{jk} ...
    s_v  =  exp(r(h_v)) sqrt(2 / fan_in)

A unit has one code wherever it is met: row i mod T of a learned table of T codes, which is the
tiling of GHN-2, Knyazev et al. (2021), arXiv 2110.13100, done for axes in place of tensors, with
noise that tells the copies apart; each place of an axis reads it by a map of its own. An entry of a
fixed axis is read from cosines of its position, so that no size is unheard of. A flattened axis
multiplies. Matrices are brought to a root mean square near sqrt(2 / fan_in), as GHN-2 normalises
what it predicts; vectors start near what a new network has.

Guaranteed: codes moved like units give the weights moved like units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.generative.models.graph_nodes import PLACES, Axis, TensorGraph, place_of
from wsl.params import Params
from wsl.symmetry import PermutationSpec

Codes = Mapping[str, Tensor]
"""Of the units of each group, (size, rank)."""


class TileDecoder(nn.Module):
    """Weights of one network from features (V, width) of its tensors.

    tile: how many codes of units are learned. waves: how many cosines a fixed axis is read from.
    """

    def __init__(self, width: int, *, rank: int, tile: int, waves: int) -> None:
        super().__init__()
        self.rank, self.waves = rank, waves
        self.units = nn.Parameter(torch.randn(tile, rank))
        self.read = nn.ModuleList(nn.Linear(rank, rank, bias=False) for _ in PLACES)
        self.fixed = nn.ModuleList(nn.Linear(waves, rank, bias=False) for _ in PLACES)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, rank))
        self.scale = nn.Linear(width, 1)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)

    def codes(
        self, spec: PermutationSpec, *, noise: float, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Of every unit: the table over and over, and ``noise`` deviations of its own."""
        found = {}
        for name, size in spec.groups.items():
            rows = self.units[torch.arange(size) % len(self.units)]
            drawn = torch.randn(rows.shape, generator=generator).to(rows)
            found[name] = rows + noise * drawn
        return found

    def forward(
        self, spec: PermutationSpec, h: Tensor, *, graph: TensorGraph, codes: Codes
    ) -> Params:
        """Every tensor of ``graph``, of whose features ``h`` has a row each."""
        mixed, scales = self.mix(h), self.scale(h)[:, 0].exp()
        found = {}
        for name, m, scale in zip(graph.names, mixed, scales, strict=True):
            raw = _product(m, self._tables(spec.axes[name], codes)).reshape(spec.shapes[name])
            found[name] = scale * _normalised(raw) if raw.dim() > 1 else self._vector(raw, scale)
            if raw.dim() < 2 and name.rpartition(".")[2] == "weight":
                found[name] = 1 + found[name]
        return found

    def _vector(self, raw: Tensor, scale: Tensor) -> Tensor:
        """A bias, or what a scale of batch norm is beside 1: small at first."""
        return 0.1 * scale * raw / math.sqrt(self.rank)

    def _tables(self, axes: Sequence[Axis], codes: Codes) -> list[Tensor]:
        return [
            torch.cat([self._segment(segment, place_of(i), codes) for segment in axis])
            for i, axis in enumerate(axes)
        ]

    def _segment(self, segment: Sequence[str | int], place: int, codes: Codes) -> Tensor:
        """Codes of all entries of a product of atoms, the last fastest."""
        found = None
        for atom in segment:
            if isinstance(atom, str):
                told = self.read[place](codes[atom])
            else:
                told = self.fixed[place](_waves(atom, self.waves).to(self.units))
            found = told if found is None else (found[:, None] * told).flatten(0, 1)
        return self.units.new_ones(1, self.rank) if found is None else found


def _normalised(raw: Tensor) -> Tensor:
    """With the root mean square that keeps the size of signals behind a rectifier."""
    size = raw.square().mean().add(1e-12).sqrt()
    return raw * math.sqrt(2 / math.prod(raw.shape[1:])) / size


def _product(m: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """Sum over k of m_k times one column of every table, flat."""
    if not tables:
        return m.sum()
    first, *rest = tables
    left = first * m
    for table in rest[:-1]:
        left = (left[:, None] * table).flatten(0, 1)
    return left @ rest[-1].T if rest else left.sum(-1)


def _waves(size: int, count: int) -> Tensor:
    """Cosines (size, count) at the positions of an axis; those that repeat others are 0."""
    frequency = torch.arange(count)
    position = (torch.arange(size) + 0.5) / size
    found = (math.pi * position[:, None] * frequency).cos()
    return torch.where(frequency < size, found, 0.0)
