"""Tensors made in the graph: filled with one value they are uniform, so that nothing is tied to them."""

from __future__ import annotations

from typing import Any

from wsl.symmetry.axes import Value
from wsl.symmetry.rules.call import Call, Rules, rows


def filled(at: Call, **_: Any) -> Value:
    """One value everywhere."""
    return tuple(map(at.uniform, at.shape))


RULES: Rules = rows(filled, "full full_like zeros zeros_like ones ones_like new_full new_zeros new_ones scalar_tensor")
