"""Convolutions: channels contract as in a matrix product; kernel and spatial axes cannot move.

With g groups the channel axes are g x (c / g). The groups move as blocks, in input and output alike; inside a group one
permutation serves every group, because the weight has a single axis for all of them. Depthwise is the case c / g = 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.axes import Value, fresh, multiply, pin, size
from wsl.symmetry.rules.call import Call, Rules, pin_space, rows
from wsl.symmetry.unify import unite


def convolution(
    at: Call, input: Value, weight: Value, bias: Value | None = None, groups: int = 1, transposed: bool = False, **_: Any
) -> Value:
    """Weight (out, in / g, *kernel), or transposed (in, out / g, *kernel); the input may lack the batch axis."""
    spatial = len(weight) - 2
    lead, channels = input[: -spatial - 1], input[-spatial - 1]
    pin_space(at, input, spatial)
    for axis in weight[2:]:
        pin(axis, f"kernel of {at.name}")
    blocks = fresh(groups)
    whole = unite(weight[0], multiply(blocks, fresh(size(weight[0]) // groups)))
    parts = multiply(blocks, weight[1])
    unite(channels, whole if transposed else parts)
    out = parts if transposed else whole
    return (*lead, out if bias is None else unite(out, bias[0]), *at.fixed("space", at.shape[-spatial:]))


RULES: Rules = {
    **rows(convolution, "conv1d conv2d conv3d"),
    **rows(partial(convolution, transposed=True), "conv_transpose1d conv_transpose2d conv_transpose3d"),
}
