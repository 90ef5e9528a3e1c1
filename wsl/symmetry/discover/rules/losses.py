"""Losses: entries are compared one by one, and averaged or not."""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, is_value, pin
from wsl.symmetry.discover.exponents import VANISH
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import unite


def compared(at: OpContext, **arguments: Any) -> Value:
    """A function of each entry of all operands; a sum or mean of them is symmetric."""
    entries = broadcast(*filter(is_value, arguments.values()))
    return entries if at.shape else ()


def classified(
    at: OpContext, self: Value, target: Value, weight: Value | None = None, **_: Any
) -> Value:
    """Cross entropy over axis 1, or 0 of a vector; a class that is told by number cannot move."""
    axis = min(1, len(self) - 1)
    if weight is not None:
        unite(self[axis], weight[0])
    if len(target) == len(self):
        entries = broadcast(self, target)
    else:
        pin(self[axis], f"classes of {at.name}")
        entries = replace(self, axis, ((),))
        tuple(unite(a, b) for a, b in zip(replace(self, axis), target, strict=True))
    return replace(entries, axis) if at.shape else ()


RULES: OpTable = {
    **row("mse_loss l1_loss smooth_l1_loss huber_loss soft_margin_loss", compared, units=VANISH),
    **row("binary_cross_entropy binary_cross_entropy_with_logits kl_div", compared, units=VANISH),
    **row("cross_entropy_loss nll_loss nll_loss2d nll_loss_nd", classified, units=VANISH),
}
