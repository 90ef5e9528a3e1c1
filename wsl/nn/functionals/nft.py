"""`NFT`: neural functional transformer, weights attend to the weights of the same units.

    h <- h + sum_k O_k A_k(norm(h)) + O A(norm(h));      h <- h + MLP(norm(h))

    A_k(x)_w = phi(q_w) . S_u / phi(q_w) . z_u,          phi = elu + 1
    S_u = sum_{w' at u} phi(k_w') v_w'^T,                z_u = sum_{w' at u} phi(k_w')

with u the unit at which weight w stands on its k-th permutable axis, w' all weights of all tensors
at that unit, and A the same over all weights of the network. Zhou et al. (2023), Neural Functional
Transformers, arXiv 2305.13546: attention along rows and columns, here for any specification; with
the kernel attention of Katharopoulos et al. (2020), arXiv 2006.16236, instead of softmax, so that
time and memory are linear in the number of weights. Invariant by construction; not complete:
entries on the diagonal of a tied square are weights like others. Units of a family are (head, dk),
and heads attend as wholes too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import BlockLayout, BlockPool, Space, validate
from wsl.nn.functional import Functional, check_heads
from wsl.nn.functionals.trunk import Lift, pack, unpack
from wsl.nn.inputs import InputNormalizer, head
from wsl.symmetry import PermutationSpec


class _Sums(NamedTuple):
    """What weights leave at units: S (units, batch, heads, d, d) and z (units, batch, heads, d)."""

    matrix: Tensor
    mass: Tensor


class NFT(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``layers`` of attention with ``heads``, on ``hidden`` channels for every weight. Raises
    ValueError unless ``heads`` divides ``hidden``.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 32,
        layers: int = 3,
        heads: int = 4,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
    ):
        super().__init__()
        check_heads("NFT", hidden, heads)
        self.spec, self.normalizer, layout = spec, InputNormalizer(spec, odd=odd), BlockLayout(spec)
        self.spaces, self.lift = layout.spaces, Lift(layout, hidden)
        self.layers = attention_blocks(self.spaces, hidden, layers, heads=heads)
        self.pool = BlockPool(self.spaces, [hidden] * len(self.spaces))
        self.head = head(
            self.pool.features, head_hidden, head_hidden, out_features, dropout=dropout
        )

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        h = self.layers(self.lift(self.normalizer(params)))
        return self.head(self.pool(unpack(h, self.spaces)))


class AttentionBlock(nn.Module):
    """One layer on packed features (positions, batch, channels)."""

    def __init__(self, spaces: Sequence[Space], channels: int, heads: int):
        super().__init__()
        self.spaces = spaces
        self.norm, self.norm_mlp = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.places = [(b, k) for b, space in enumerate(spaces) for k in range(len(space))]
        slots = max(len(space) for space in spaces)
        self.axes = nn.ModuleList(Projection(channels, heads) for _ in range(slots))
        self.all = Projection(channels, heads)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, h: Tensor) -> Tensor:
        """Attend, then act on each weight alone."""
        x = self.norm(h)
        whole = self.all(x.unsqueeze(0))
        h = h + self.along_axes(x) + self.all.leave(_read(whole, _sums(whole)))[0]
        return h + self.mlp(self.norm_mlp(h))

    def along_axes(self, x: Tensor) -> Tensor:
        """What each weight reads at the units it stands on, summed over its axes."""
        pieces, axes = unpack(x, self.spaces), cast("Sequence[Projection]", self.axes)
        parts = [axes[k](_units_first(pieces[b], self.spaces[b], k)) for b, k in self.places]
        sums = self._sums_by_group(parts)
        found = [torch.zeros_like(piece) for piece in pieces]
        for (b, k), part in zip(self.places, parts, strict=True):
            y = axes[k].leave(_read(part, sums[self.spaces[b][k].group]))
            found[b] = found[b] + _units_back(y, self.spaces[b], k)
        return pack(found)

    def _sums_by_group(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> dict[str, _Sums]:
        """All weights at a unit, of whatever tensor and axis, into one pair of sums."""
        sums: dict[str, _Sums] = {}  # added, not concatenated: S and z are sums over weights
        for (b, k), part in zip(self.places, parts, strict=True):
            group, own = self.spaces[b][k].group, _sums(part)
            if group in sums:
                before = sums[group]
                own = _Sums(before.matrix + own.matrix, before.mass + own.mass)
            sums[group] = own
        return sums


def attention_blocks(
    spaces: Sequence[Space], channels: int, layers: int, *, heads: int
) -> nn.Sequential:
    """So many layers, one after another."""
    return nn.Sequential(*(AttentionBlock(spaces, channels, heads) for _ in range(layers)))


class Projection(nn.Module):
    """Positive queries and keys, and values: each (units, rest, batch, heads, d).

    ``leave`` is the map after attention.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.enter, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (units, rest, batch, channels)."""
        q, k, v = rearrange(
            self.enter(x),
            "unit rest batch (role head d) -> role unit rest batch head d",
            role=3,
            head=self.heads,
        )
        return F.elu(q) + 1, F.elu(k) + 1, v

    def leave(self, y: Tensor) -> Tensor:
        """Heads side by side into the output map."""
        return self.out(rearrange(y, "unit rest batch head d -> unit rest batch (head d)"))


def _sums(part: tuple[Tensor, Tensor, Tensor]) -> _Sums:
    _, k, v = part
    return _Sums(torch.einsum("urbhd,urbhe->ubhde", k, v), k.sum(1))


def _read(part: tuple[Tensor, Tensor, Tensor], sums: _Sums) -> Tensor:
    q = part[0]
    weighed = torch.einsum("urbhd,ubhde->urbhe", q, sums.matrix)
    return weighed / torch.einsum("urbhd,ubhd->urbh", q, sums.mass).unsqueeze(-1)


def _unit_axes(space: Space, axis: int) -> list[int]:
    parent = space[axis].parent
    return [axis] if parent is None else [parent, axis]


def _units_first(piece: Tensor, space: Space, axis: int) -> Tensor:
    """(*axes, batch, channels) to (units on the axis, the other axes together, batch, channels)."""
    front = _unit_axes(space, axis)
    units = math.prod([space[k].size for k in front])
    return piece.movedim(front, list(range(len(front)))).reshape(units, -1, *piece.shape[-2:])


def _units_back(y: Tensor, space: Space, axis: int) -> Tensor:
    """Inverse of `_units_first`."""
    front = _unit_axes(space, axis)
    order = front + [k for k in range(len(space)) if k not in front]
    whole = y.reshape(*[space[k].size for k in order], *y.shape[-2:])
    return whole.movedim(list(range(len(front))), front)
