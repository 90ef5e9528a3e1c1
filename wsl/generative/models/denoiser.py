"""The network inside a diffusion of vectors: a residual MLP told the time and the condition.

    h <- h + f((1 + scale(u)) norm(h) + shift(u)),    u = embed(t) + embed(c, known)

Modulated blocks as in DiT, Peebles and Xie (2023), arXiv 2212.09748, without attention: a latent
vector has no tokens. The last layer starts at zero, so that an untrained network predicts v = 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Context(nn.Module):
    """What a denoiser is told beside its vector: u = embed(t) + embed(c, known), (n, hidden)."""

    def __init__(self, hidden: int, *, conditions: int = 0) -> None:
        super().__init__()
        self.hidden = hidden
        self.time = _embed(hidden, hidden)
        self.condition = _embed(conditions + 1, hidden)

    def forward(self, t: Tensor, condition: Tensor, *, known: Tensor) -> Tensor:
        """``condition`` (n, K) counts where ``known`` (n,) is 1 and is ignored where it is 0."""
        given = torch.cat([condition * known[:, None], known[:, None]], 1)
        return self.time(sinusoids(t, self.hidden).to(given)) + self.condition(given)


class Denoiser(nn.Module):
    """Residual MLP v(x_t, t, c), its blocks scaled and shifted by time and condition."""

    def __init__(
        self, features: int, *, conditions: int = 0, hidden: int = 256, blocks: int = 3
    ) -> None:
        super().__init__()
        self.context = Context(hidden, conditions=conditions)
        self.enter, self.leave = nn.Linear(features, hidden), nn.Linear(hidden, features)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(blocks))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, *, known: Tensor) -> Tensor:
        """``condition`` (n, K) counts where ``known`` (n,) is 1 and is ignored where it is 0."""
        context = self.context(t, condition, known=known)
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, context)
        return self.leave(x)


class _Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))
        self.body = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, hidden)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.modulate(context).chunk(2, -1)
        return x + self.body(self.norm(x) * (1 + scale) + shift)


def _embed(features: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden))


def sinusoids(t: Tensor, features: int) -> Tensor:
    """Sine and cosine features (n, features) of times (n,), wavelengths 2 pi to 20,000 pi."""
    half = (features + 1) // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=t.device) / half)
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :features]
