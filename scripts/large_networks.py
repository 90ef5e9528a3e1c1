"""A llama of any size, for `large_match.py`."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a llama: those of TinyLlama 1.1B unless told."""

    hidden: int = 2048
    layers: int = 22
    heads: int = 32
    kv_heads: int = 4
    ffn: int = 5632
    vocabulary: int = 32000

    @property
    def head(self) -> int:
        return self.hidden // self.heads


SIZES = {
    "full": Shape(),
    "small": Shape(256, 10, 8, 2, 768, 22000),
    "tiny": Shape(64, 2, 4, 2, 96, 97),
}


class Layer(nn.Module):
    """Attention with grouped queries and rotary positions, then a gated feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, kv = shape.hidden, shape.kv_heads * shape.head
        self.shape = shape
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        for name, out in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            setattr(self.self_attn, f"{name}_proj", nn.Linear(d, out, bias=False))
        self.mlp.gate_proj, self.mlp.up_proj = (nn.Linear(d, shape.ffn, bias=False) for _ in "gu")
        self.mlp.down_proj = nn.Linear(shape.ffn, d, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attend(self.input_layernorm(x), rotary)
        y, mlp = self.post_attention_layernorm(x), self.mlp
        return x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))

    def attend(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        s, at = self.shape, self.self_attn
        rows, length, _ = x.shape
        q = rotated(at.q_proj(x).view(rows, length, s.heads, s.head).transpose(1, 2), rotary)
        k = rotated(at.k_proj(x).view(rows, length, s.kv_heads, s.head).transpose(1, 2), rotary)
        v = at.v_proj(x).view(rows, length, s.kv_heads, s.head).transpose(1, 2)
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return at.o_proj(out.transpose(1, 2).reshape(rows, length, s.hidden))


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.model.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.model.norm = nn.RMSNorm(shape.hidden)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self.head = shape.head

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.model.embed_tokens(tokens)
        rotary = angles(tokens.shape[1], self.head, x.device)
        for layer in self.model.layers:
            x = layer(x, rotary)
        return self.lm_head(self.model.norm(x))


def angles(length: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    frequency = 10000.0 ** (-torch.arange(0, head, 2, device=device) / head)
    angle = torch.outer(torch.arange(length, device=device).float(), frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    one, two = x.chunk(2, -1)
    return x * rotary[0] + torch.cat([-two, one], -1) * rotary[1]


def llama(size: str = "full") -> Llama:
    return Llama(SIZES[size])
