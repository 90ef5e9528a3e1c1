"""Fused attention: heads move as blocks, the inside of queries and keys together, the inside of
values with the output.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, multiply, size
from wsl.symmetry.discover.exponents import Exponents, OpConstraints, UnitRule
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import unite


def attention(
    at: OpContext,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
    **_: Any,
) -> Value:
    """softmax(Q K^T) V over (.., head, position, feature); with fewer key heads, each serves a
    block of query heads.
    """
    if enable_gqa:
        key, value = (_for_each_query(at, kv, size(query[-3])) for kv in (key, value))
    inside, positions = unite(query[-1], key[-1]), unite(key[-2], value[-2])
    scores = (*broadcast(query[:-2], key[:-2], value[:-2]), query[-2], positions)
    if is_causal:
        scores = broadcast(scores, at.fixed("causal mask", [size(query[-2]), size(positions)]))
    if attn_mask is not None:
        scores = broadcast(scores, attn_mask)
    at.between(scores)
    roles = [*((axis, "head") for axis in scores[-3:-2]), (inside, "dk"), (value[-1], "dv")]
    for axis, role in roles:
        at.label(axis, role)
    return (*scores[:-1], value[-1])


def _for_each_query(at: OpContext, value: Value, heads: int) -> Value:
    """Heads of keys or values, repeated for the block of query heads that each of them serves."""
    return replace(value, -3, multiply(value[-3], at.uniform(heads // size(value[-3]))))


def attention_units(e: Exponents, op: OpConstraints) -> None:
    """Scores have no exponent; queries and keys are contracted over their features, values over
    positions.
    """
    for constraint in op.constraints:
        scores, values = constraint.of("query", "key"), constraint.of("value")
        if e.kind == "linear" and len(scores) + len(values) > (1 if constraint.results else 2):
            e.forbid(constraint)
            continue
        e.vanish(e.total(scores))
        e.vanish(e.total(constraint.of("attn_mask")))
        form = e.total(values)
        if not constraint.results:
            e.vanish(form)
        e.give(constraint, form)


RULES: OpTable = row("scaled_dot_product_attention", attention, units=UnitRule(attention_units))
