"""Transformers of the shapes that people have, in plain torch and as small as the laws allow."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Shape:
    """``rope``: None, or the pairing of a rotary embedding. ``post``: norms after the sums."""

    rope: str | None = None
    kv: int = 4
    rms: bool = False
    gated: bool = False
    post: bool = False
    causal: bool = True
    classes: bool = False
    width: int = 12
    heads: int = 4
    size: int = 4
    hidden: int = 10
    depth: int = 2
    vocabulary: int = 17
    length: int = 6
    experts: int = 0


GPT2 = Shape()
BERT = Shape(post=True, causal=False)
VIT = Shape(causal=False, classes=True)
LLAMA = Shape(rope="half", kv=2, rms=True, gated=True)
GPTJ = Shape(rope="interleaved", kv=4)
MIXTRAL = dataclasses.replace(LLAMA, experts=4, depth=1)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


def turned(x: Tensor, form: str) -> Tensor:
    """Rotary positions of (..., length, size), with pairs in one of the two orders."""
    length, size = x.shape[-2:]
    frequencies = 100.0 ** -(torch.arange(0, size, 2) / size)
    angle = torch.arange(length)[:, None] * frequencies
    if form == "half":
        a, b = x.chunk(2, -1)
        angle = torch.cat([angle, angle], -1)
        return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()
    a, b = x[..., ::2], x[..., 1::2]
    angle = angle.repeat_interleave(2, -1)
    return x * angle.cos() + torch.stack([-b, a], -1).flatten(-2) * angle.sin()


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, width, size = shape, shape.width, shape.size
        self.q = nn.Linear(width, shape.heads * size)
        self.k = nn.Linear(width, shape.kv * size)
        self.v = nn.Linear(width, shape.kv * size)
        self.o = nn.Linear(shape.heads * size, width, bias=not shape.rms)

    def forward(self, x):
        shape, (batch, length, _) = self.shape, x.shape
        q, k, v = (
            f(x).view(batch, length, heads, shape.size).transpose(1, 2)
            for f, heads in ((self.q, shape.heads), (self.k, shape.kv), (self.v, shape.kv))
        )
        if shape.rope:
            q, k = turned(q, shape.rope), turned(k, shape.rope)
        group = shape.heads // shape.kv
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=shape.causal)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gated, bias = shape.gated, not shape.rms
        self.up = nn.Linear(shape.width, shape.hidden, bias=bias)
        self.down = nn.Linear(shape.hidden, shape.width, bias=bias)
        if shape.gated:
            self.gate = nn.Linear(shape.width, shape.hidden, bias=bias)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x) if self.gated else F.gelu(self.up(x)))


class Mixture(nn.Module):
    """Of every token the best two experts, weighted by the softmax of their gates."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.router = nn.Linear(shape.width, shape.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(shape) for _ in range(shape.experts))

    def forward(self, x):
        gates = self.router(x)
        best = gates >= gates.topk(2, -1).values[..., 1:]
        shares = gates.masked_fill(~best, float("-inf")).softmax(-1)
        return sum(shares[..., i, None] * expert(x) for i, expert in enumerate(self.experts))


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        norm = RMSNorm if shape.rms else nn.LayerNorm
        self.post = shape.post
        self.norm1, self.norm2 = norm(shape.width), norm(shape.width)
        self.attention = Attention(shape)
        self.mlp = Mixture(shape) if shape.experts else FeedForward(shape)

    def forward(self, x):
        if self.post:
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.mlp(x))
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Tokens to logits, or with ``classes`` patches to the logits of their mean."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, width = shape, shape.width
        self.embed = nn.Linear(5, width) if shape.classes else nn.Embedding(shape.vocabulary, width)
        if not shape.rope:
            self.positions = nn.Parameter(torch.randn(shape.length, width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        if not shape.post:
            self.norm = RMSNorm(width) if shape.rms else nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.vocabulary, bias=not shape.rms)

    def forward(self, x):
        x = self.embed(x)
        if not self.shape.rope:
            x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = x if self.shape.post else self.norm(x)
        return self.head(x.mean(1) if self.shape.classes else x)


def inputs(shape: Shape, seed: int = 0) -> Tensor:
    """Two sequences."""
    rng = torch.Generator().manual_seed(seed)
    if shape.classes:
        return torch.randn(2, shape.length, 5, generator=rng)
    return torch.randint(shape.vocabulary, (2, shape.length), generator=rng)


def weights(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random float64 weights, gains around 1; no unit is like another."""
    rng = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=rng, dtype=torch.float64)
        scaled = noise / max(tensor.shape[-1], 1) ** 0.5 if tensor.dim() > 1 else 0.3 * noise
        drawn[name] = scaled + 1 if "norm" in name and name.endswith("weight") else scaled
    return drawn
