"""The network inside a diffusion of weights themselves: it moves with the order of units.

    h_b = lift_b(x_b, extra_b),   u = embed(t) + embed(c, known)
    h <- h + W(gelu(gate) * value),   (gate, value) = H((1 + scale(u)) norm(h) + shift(u))
    v_b = lower_b(h_b)

H are all equivariant affine maps of the specification's permutable axes (Zhou et al., 2024,
Universal Neural Functionals, arXiv 2402.05232); fixed axes are channels of the first and last maps.
Time and condition scale and shift the channels of every tensor alike, so that

    v(g.x, t, c) = g.v(x, t, c),   and hence p(g.theta) = p(theta) of what is drawn.

Cost is linear in the number of weights. Nothing is aligned, and no order of units is learned.
Permutations only: signs, scales and phases of units are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.models.denoiser import Context
from wsl.nn import BlockLayout, BlockLinear
from wsl.params import ravel, unravel
from wsl.symmetry import PermutationSpec


class EquivariantDenoiser(nn.Module):
    """v (n, P) of weights x (n, P), the tensors of ``spec`` one after another.

    channels: features of every weight. blocks: equivariant maps.
    extra: channels of what may be told of single axes, for example of every class on the axis of
    outputs; see ``forward``.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        conditions: int = 0,
        channels: int = 32,
        blocks: int = 3,
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.shapes, self.extra = spec.shapes, extra
        self.layout = BlockLayout(spec)
        self.context = Context(channels, conditions=conditions)
        fixed = self.layout.widths(1)
        self.lift = nn.ModuleList(nn.Linear(width * (1 + extra), channels) for width in fixed)
        self.blocks = nn.ModuleList(_Mix(self.layout, channels) for _ in range(blocks))
        self.lower = nn.ModuleList(nn.Linear(channels, width) for width in fixed)
        for last in self.lower:
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        *,
        known: Tensor,
        extra: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """``condition`` (n, K) counts where ``known`` (n,) is 1 and is ignored where it is 0.

        extra: for some tensors (n, *axes, extra), each axis whole or of size 1; they stand beside
        the weights as channels, and are 0 for tensors that are not named.
        """
        context = self.context(t, condition, known=known)
        pieces = self.layout.split(self._told(x, extra or {}))
        h = [lift(piece) for lift, piece in zip(self.lift, pieces, strict=True)]
        for block in self.blocks:
            h = block(h, context)
        out = self.layout.join([lower(y) for lower, y in zip(self.lower, h, strict=True)])
        return ravel({name: tensor.squeeze(-1) for name, tensor in out.items()}, batch_dims=1)

    def _told(self, x: Tensor, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights (n, *axes, 1 + extra), with their further channels."""
        weights = {name: t.unsqueeze(-1) for name, t in unravel(x, self.shapes).items()}
        if unknown := sorted(extra.keys() - weights.keys()):
            raise ValueError(f"extra: {unknown[0]!r} is no tensor that is generated")
        if not self.extra:
            return weights
        return {
            name: torch.cat([t, self._channels(t, extra.get(name))], -1)
            for name, t in weights.items()
        }

    def _channels(self, weight: Tensor, told: Tensor | None) -> Tensor:
        shape = (*weight.shape[:-1], self.extra)
        return weight.new_zeros(shape) if told is None else told.to(weight).expand(shape)


class _Mix(nn.Module):
    """One residual layer on blocks (*axes, n, channels), scaled and shifted by the context."""

    def __init__(self, layout: BlockLayout, channels: int) -> None:
        super().__init__()
        count = len(layout.spaces)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(channels, 2 * channels))
        self.map = BlockLinear(
            layout.spaces,
            layout.spaces,
            in_channels=[channels] * count,
            out_channels=[2 * channels] * count,
        )
        self.out = nn.ModuleList(nn.Linear(channels, channels) for _ in layout.spaces)

    def forward(self, h: Sequence[Tensor], context: Tensor) -> list[Tensor]:
        scale, shift = self.modulate(context).chunk(2, -1)
        told = [F.layer_norm(y, y.shape[-1:]) * (1 + scale) + shift for y in h]
        mixed = [_gated(y) for y in self.map(told)]
        return [y + out(z) for y, out, z in zip(h, self.out, mixed, strict=True)]


def _gated(y: Tensor) -> Tensor:
    gate, value = y.chunk(2, -1)
    return F.gelu(gate) * value
