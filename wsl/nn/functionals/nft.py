"""`NFT`: neural functional transformer, weights attend to the weights of the same units.

    h <- h + sum_k O_k A_k(norm(h)) + O A(norm(h));    h <- h + MLP(norm(h))
    A_k(x)_w = phi(q_w) . S_u / phi(q_w) . z_u,   S_u = sum_{w' at u} phi(k_w') v_w'^T,   z_u = sum
        phi(k_w'),   phi = elu + 1

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
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import BlockPool, Layout, Lift, Space, pack, unpack, validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, head
from wsl.symmetry import PermutationSpec

State = tuple[Tensor, Tensor]
"""S (units, batch, heads, d, d) and z (units, batch, heads, d)."""


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
        if hidden % heads:
            raise ValueError(f"NFT: hidden={hidden} is not a multiple of heads={heads}")
        self.spec, self.normalizer, layout = spec, InputNormalizer(spec, odd=odd), Layout(spec)
        self.spaces, self.lift = layout.spaces, Lift(layout, hidden)
        self.layers = nn.Sequential(
            *(AttentionBlock(self.spaces, hidden, heads) for _ in range(layers))
        )
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
        self.spaces, self.norm, self.norm_mlp = (
            spaces,
            nn.LayerNorm(channels),
            nn.LayerNorm(channels),
        )
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
        h = h + self.along_axes(x) + self.all.leave(_read(whole, _state(whole))[0])
        return h + self.mlp(self.norm_mlp(h))

    def along_axes(self, x: Tensor) -> Tensor:
        """What each weight reads at the units it stands on, summed over its axes."""
        pieces = unpack(x, self.spaces)
        own = cast("Sequence[Projection]", self.axes)
        roles = [(b, k) for b, space in enumerate(self.spaces) for k in range(len(space))]
        parts = [own[k](_units_first(pieces[b], self.spaces[b], k)) for b, k in roles]
        states: dict[str, State] = {}
        for (b, k), part in zip(roles, parts, strict=True):
            group, (matrix, mass) = self.spaces[b][k].group, _state(part)
            states[group] = (
                (states[group][0] + matrix, states[group][1] + mass)
                if group in states
                else (matrix, mass)
            )
        sums = [torch.zeros_like(piece) for piece in pieces]
        for (b, k), part in zip(roles, parts, strict=True):
            y = own[k].leave(_read(part, states[self.spaces[b][k].group]))
            sums[b] = sums[b] + _units_back(y, self.spaces[b], k)
        return pack(sums)


class Projection(nn.Module):
    """Queries and keys, positive, and values (units, rest, batch, heads, d); ``leave`` is the map
    after attention.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.enter, self.out = (
            heads,
            nn.Linear(channels, 3 * channels),
            nn.Linear(channels, channels),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (units, rest, batch, channels)."""
        q, k, v = self.enter(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return F.elu(q) + 1, F.elu(k) + 1, v

    def leave(self, y: Tensor) -> Tensor:
        """Heads side by side into the output map."""
        return self.out(y.flatten(-2))


def _state(part: tuple[Tensor, Tensor, Tensor]) -> State:
    _, k, v = part
    return torch.einsum("urbhd,urbhe->ubhde", k, v), k.sum(1)


def _read(part: tuple[Tensor, Tensor, Tensor], state: State) -> Tensor:
    q, (matrix, mass) = part[0], state
    return torch.einsum("urbhd,ubhde->urbhe", q, matrix) / torch.einsum(
        "urbhd,ubhd->urbh", q, mass
    ).unsqueeze(-1)


def _unit_axes(space: Space, axis: int) -> list[int]:
    parent = space[axis].parent
    return [axis] if parent is None else [parent, axis]


def _units_first(piece: Tensor, space: Space, axis: int) -> Tensor:
    """(*axes, batch, channels) to (units on the axis, the other axes together, batch, channels)."""
    front = _unit_axes(space, axis)
    units = math.prod([space[k].size for k in front])
    return piece.movedim(front, list(range(len(front)))).reshape(units, -1, *piece.shape[-2:])


def _units_back(y: Tensor, space: Space, axis: int) -> Tensor:
    front = _unit_axes(space, axis)
    order = front + [k for k in range(len(space)) if k not in front]
    return y.reshape(*[space[k].size for k in order], *y.shape[-2:]).movedim(
        list(range(len(front))), front
    )
