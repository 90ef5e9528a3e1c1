"""Convolutions: channels contract as in a matrix product; kernel and space cannot move, save under
a kernel of one position.

With g groups the channel axes are g x (c / g). The groups move as blocks, in input and output
alike; inside a group one permutation serves every group, because the weight has a single axis for
all of them. Depthwise is the case c / g = 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Value, fresh, multiply, pin, size
from wsl.symmetry.discover.exponents import product
from wsl.symmetry.discover.rules.row import OpContext, OpTable, row
from wsl.symmetry.discover.unify import unite


def convolution(
    at: OpContext,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    groups: int = 1,
    transposed: bool = False,
    **steps: Any,
) -> Value:
    """Weight (out, in / g, *kernel), or transposed (in, out / g, *kernel); the input may lack the
    batch axis.
    """
    *_, channels = lead = input[: 2 - len(weight)]
    space = _space(at, input[2 - len(weight) :], weight[2:], **steps)
    for axis in weight[2:]:
        pin(axis, f"kernel of {at.name}")
    blocks = fresh(groups)
    whole = unite(weight[0], multiply(blocks, fresh(size(weight[0]) // groups)))
    parts = multiply(blocks, weight[1])
    unite(channels, whole if transposed else parts)
    out = parts if transposed else whole
    return (*lead[:-1], out if bias is None else unite(out, bias[0]), *space)


def _space(
    at: OpContext, space: Value, kernel: Value, *, stride: Any = 1, padding: Any = 0, **_: Any
) -> Value:
    """Where the kernel is one position that slides by ones, every position is treated alike, and
    may move.
    """
    strides, paddings = (_on_each_axis(given, len(space)) for given in (stride, padding))
    pointwise = [
        (size(k), s, p) == (1, 1, 0) for k, s, p in zip(kernel, strides, paddings, strict=True)
    ]
    for axis, free in zip(space, pointwise, strict=True):
        if not free:
            pin(axis, f"space of {at.name}")
    still = at.fixed("space", at.shape[-len(space) :])
    return tuple(
        axis if free else other for axis, other, free in zip(space, still, pointwise, strict=True)
    )


def _on_each_axis(given: Any, axes: int) -> list[Any]:
    return given * (axes // len(given)) if isinstance(given, list) else [given] * axes


AFFINE = product("input weight", biased=True)

RULES: OpTable = {
    **row("conv1d conv2d conv3d", convolution, units=AFFINE),
    **row(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        partial(convolution, transposed=True),
        units=AFFINE,
    ),
}
