"""Tensors made in the graph: filled with one value they are uniform, so that nothing is tied to
them; others are fixed.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value
from wsl.symmetry.discover.rules.call import Call, Rules, rows


def filled(at: Call, **_: Any) -> Value:
    """One value everywhere."""
    return tuple(map(at.uniform, at.shape))


def positions(at: Call, **_: Any) -> Value:
    """Numbers that differ from place to place."""
    return at.fixed("positions", at.shape)


def one_hot(at: Call, self: Value, **_: Any) -> Value:
    """An axis of classes for every entry."""
    return (*self, *at.fixed("classes", at.shape[-1:]))


RULES: Rules = {
    **rows(
        filled,
        "full full_like zeros zeros_like ones ones_like new_full new_zeros new_ones scalar_tensor "
        "zero fill",
    ),
    **rows(filled, "empty empty_like new_empty"),
    **rows(
        positions,
        "arange linspace logspace eye tril_indices triu_indices randn rand randint randperm",
    ),
    **rows(one_hot, "one_hot"),
}
