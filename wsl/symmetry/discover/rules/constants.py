"""Tensors made in the graph: filled with one value they are uniform, so that nothing is tied to
them; others are fixed.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, fresh
from wsl.symmetry.discover.exponents import IGNORE, VANISH, UnitRule
from wsl.symmetry.discover.rules.row import OpContext, OpTable, row


def filled(at: OpContext, **_: Any) -> Value:
    """One value everywhere."""
    return tuple(map(at.uniform, at.shape))


def positions(at: OpContext, **_: Any) -> Value:
    """Numbers that differ from place to place."""
    return at.fixed("positions", at.shape)


def identity(at: OpContext, **_: Any) -> Value:
    """The same matrix in every order of its units, if rows and columns are in one order."""
    rows, columns = at.shape
    if rows != columns:
        return positions(at)
    axis = fresh(rows)
    return (axis, axis)


def one_hot(at: OpContext, self: Value, **_: Any) -> Value:
    """An axis of classes for every entry."""
    return (*self, *at.fixed("classes", at.shape[-1:]))


FILLED = UnitRule(IGNORE.equations, zero=lambda _, op: op.arguments.get("fill_value") == 0)
ZEROS = UnitRule(IGNORE.equations, zero=lambda *_: True)

RULES: OpTable = {
    **row("full full_like new_full", filled, units=FILLED),
    **row("zeros zeros_like new_zeros", filled, units=ZEROS),
    **row("ones ones_like new_ones scalar_tensor", filled, units=IGNORE),
    **row("empty empty_like new_empty zero fill", filled, units=IGNORE),
    **row("arange linspace logspace tril_indices triu_indices", positions, units=IGNORE),
    **row("eye", identity, units=IGNORE),
    **row("randn rand randint randperm", positions, units=IGNORE),
    **row("one_hot", one_hot, units=VANISH),
}
