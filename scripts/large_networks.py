"""A llama of any size, and a mixture of experts shaped like Mixtral, for `large_match.py`.

Attention is the same in both: grouped queries and rotary positions. Tensors have the names of their
checkpoints, in which every expert has tensors of its own. A mixture computes all its experts and
weights them, which is the same function as to compute two.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a llama: those of TinyLlama 1.1B unless told. Without experts it has one network."""

    hidden: int = 2048
    layers: int = 22
    heads: int = 32
    kv_heads: int = 4
    ffn: int = 5632
    vocabulary: int = 32000
    experts: int = 0

    @property
    def head(self) -> int:
        return self.hidden // self.heads


SIZES = {
    "llama": {
        "full": Shape(),
        "medium": Shape(1024, 16, 16, 4, 2816, 32000),
        "small": Shape(256, 10, 8, 2, 768, 22000),
        "tiny": Shape(64, 2, 4, 2, 96, 97),
    },
    "mixtral": {
        "full": Shape(1024, 20, 16, 4, 2048, 32000, 8),
        "medium": Shape(512, 10, 8, 2, 1536, 32000, 8),
        "small": Shape(256, 4, 8, 2, 768, 4000, 8),
        "tiny": Shape(64, 2, 4, 2, 48, 97, 8),
    },
}


class Gated(nn.Module):
    """A gated feed-forward layer, whose three matrices are called so."""

    def __init__(self, shape: Shape, names: tuple[str, str, str]) -> None:
        super().__init__()
        self.names = names
        for name, transposed in zip(names, (False, False, True), strict=True):
            sizes = (shape.ffn, shape.hidden) if transposed else (shape.hidden, shape.ffn)
            setattr(self, name, nn.Linear(*sizes, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(F.silu(gate(x)) * up(x))


class Mixture(nn.Module):
    """Of every token the best two experts, weighted by the softmax of their gates."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.hidden, shape.experts, bias=False)
        experts = (Gated(shape, ("w1", "w3", "w2")) for _ in range(shape.experts))
        self.experts = nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gate(x)
        best = gates >= gates.topk(2, -1).values[..., 1:]
        shares = gates.masked_fill(~best, -math.inf).softmax(-1)
        parts = (shares[..., i, None] * expert(x) for i, expert in enumerate(self.experts))
        return functools.reduce(torch.add, parts)


class Layer(nn.Module):
    """Attention with grouped queries and rotary positions, then a feed-forward layer or many."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, kv = shape.hidden, shape.kv_heads * shape.head
        self.shape = shape
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.self_attn = nn.Module()
        for name, out in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            setattr(self.self_attn, f"{name}_proj", nn.Linear(d, out, bias=False))
        if shape.experts:
            self.block_sparse_moe = Mixture(shape)
        else:
            self.mlp = Gated(shape, ("gate_proj", "up_proj", "down_proj"))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attend(self.input_layernorm(x), rotary)
        inner = self.block_sparse_moe if self.shape.experts else self.mlp
        return x + inner(self.post_attention_layernorm(x))

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


def network(family: str = "llama", size: str = "full") -> Llama:
    return Llama(SIZES[family][size])
