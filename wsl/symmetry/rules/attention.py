"""Fused attention: heads move as blocks, the inside of queries and keys together, the inside of values with the output."""

from __future__ import annotations

from typing import Any

from wsl.symmetry.axes import Value, multiply, pin, size, unite
from wsl.symmetry.rules.call import Call, Rules, broadcast, replace, rows


def attention(
    at: Call,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
    **_: Any,
) -> Value:
    """softmax(Q K^T) V over (.., head, position, feature); with fewer key heads, each serves a block of query heads."""
    if enable_gqa:
        key, value = (replace(kv, -3, multiply(kv[-3], at.uniform(size(query[-3]) // size(kv[-3])))) for kv in (key, value))
    batch = broadcast(query[:-2], key[:-2], value[:-2])
    inside, positions = unite(query[-1], key[-1]), unite(key[-2], value[-2])
    if is_causal:
        for axis in (query[-2], positions):
            pin(axis, f"causal mask of {at.name}")
    scores = (*batch, query[-2], positions)
    at.between(scores if attn_mask is None else broadcast(scores, attn_mask))
    for role, axis in (("head", batch[-1]), ("dk", inside), ("dv", value[-1])):
        at.label(axis, role)
    return (*batch, query[-2], value[-1])


RULES: Rules = rows(attention, "scaled_dot_product_attention")
