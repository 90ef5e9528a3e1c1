"""Pooling, resampling, windows and padding: positions in space cannot move, channels pass."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from wsl.symmetry.discover import axes
from wsl.symmetry.discover.axes import Axis, Value, concat, fixed, fresh, multiply, pin
from wsl.symmetry.discover.exponents import (
    CARRY,
    LARGEST,
    LINEAR,
    LINEAR_MAP,
    VANISH,
    depending,
    separately,
)
from wsl.symmetry.discover.lazy import factor
from wsl.symmetry.discover.rules.row import OpContext, OpTable, pin_space, replace, row
from wsl.symmetry.discover.unify import narrow, unite


def window(at: OpContext, *, count: int, outputs: int = 1, **arguments: Any) -> Value | list[Value]:
    """A function of windows over the last ``count`` axes, channel by channel. Windows of one entry
    leave their axis alone.

    Not if positions are returned too, because those count through all axes.
    """
    value: Value = arguments.get("self", arguments.get("input", ()))
    lead, result = len(value) - count, value
    for i, (old, new) in enumerate(zip(axes.shape(value)[lead:], at.shape[lead:], strict=True)):
        if outputs > 1 or not _by_entries(i, old, new, **arguments):
            result = replace(result, lead + i, _pooled(at, value[lead + i], new))
    return result if outputs == 1 else [result] * outputs


def _by_entries(
    i: int,
    old: int,
    new: int,
    *,
    kernel_size: Any = None,
    stride: Any = (),
    padding: Any = 0,
    **_: Any,
) -> bool:
    """Whether every window along an axis is one entry, in order."""
    sides = [
        each if isinstance(each, int) else (each or [1])[i % len(each or [1])]
        for each in (kernel_size, stride, padding)
    ]
    return kernel_size is not None and sides == [1, 1, 0] and old == new


def _pooled(at: OpContext, axis: Axis, length: int) -> Axis:
    """Windows of an axis; the mean of a whole axis is blind to its order."""
    whole = "adaptive_avg" in at.name and length == 1
    return ((),) if whole else _space(at, axis, length)


def _space(at: OpContext, axis: Axis, length: int) -> Axis:
    pin(axis, f"space of {at.name}")
    return at.fixed("space", [length])[0]


def unfold(at: OpContext, self: Value, dimension: int, size: int, step: int, **_: Any) -> Value:
    """Windows along an axis, which become its positions; what is inside comes last. Windows side by
    side are a factoring.
    """
    if not self:
        return NotImplemented
    dimension %= len(self)
    count = at.shape[dimension]
    if step == size and count * size == axes.size(self[dimension]):
        windows, inside = factor(self[dimension], (count, size))
    else:
        pin(self[dimension], f"windows of {at.name}")
        windows, inside = at.fixed("windows", (count, size))
    return (*replace(self, dimension, windows), inside)


def im2col(at: OpContext, self: Value, **_: Any) -> Value:
    """.. c h w -> .. (c window) position."""
    pin_space(at, self, 2)
    window = fixed(at.shape[-2] // axes.size(self[-3]), f"window of {at.name}")
    return (*self[:-3], multiply(self[-3], window), *at.fixed("space", at.shape[-1:]))


def col2im(at: OpContext, self: Value, **_: Any) -> Value:
    """.. (c window) position -> .. c h w, a sum over windows."""
    pin_space(at, self, 1)
    channels = fresh(at.shape[-3])
    unite(
        self[-2],
        multiply(channels, fixed(axes.size(self[-2]) // at.shape[-3], f"window of {at.name}")),
    )
    return (*self[:-2], channels, *at.fixed("space", at.shape[-2:]))


def sample(at: OpContext, input: Value, grid: Value, **_: Any) -> Value:
    """n c *space, read at positions n *places: coordinates and space cannot move, channels and
    places pass.
    """
    pin_space(at, input, len(grid) - 2)
    pin(grid[-1], f"coordinates of {at.name}")
    return (unite(input[0], grid[0]), input[1], *grid[1:-1])


def affine_grid(at: OpContext, theta: Value, **_: Any) -> Value:
    """Coordinates of every position after an affine map, one for each image."""
    for axis in theta[1:]:
        pin(axis, f"coordinates of {at.name}")
    return (theta[0], *at.fixed("coordinates", at.shape[1:]))


def pad(at: OpContext, self: Value, pad: list[int], mode: str = "constant", **_: Any) -> Value:
    """A constant border is uniform, so that the axis becomes a concatenation; any other border pins
    the axis.
    """
    result = self
    for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        axis = self[-1 - i]
        if mode == "constant" and (before or after):
            result = replace(result, -1 - i, _bordered(at, axis, before, after=after))
        elif before or after:
            pin(axis, f"{mode} padding of {at.name}")
            result = replace(result, -1 - i, *at.fixed("space", [axes.size(axis) + before + after]))
    return result


def _bordered(at: OpContext, axis: Axis, before: int, *, after: int) -> Axis:
    """A constant border on both sides; a negative length cuts a part off."""
    length = axes.size(axis) + min(before, 0) + min(after, 0)
    kept = narrow(axis, max(-before, 0), length)
    left, right = (at.uniform(max(n, 0)) for n in (before, after))
    return concat([left, kept, right])


def pixel_shuffle(at: OpContext, self: Value, upscale_factor: int, **_: Any) -> Value:
    """(c r r) h w -> c (h r) (w r)."""
    r = fixed(upscale_factor, f"factor of {at.name}")
    channels = fresh(at.shape[-3])
    unite(self[-3], multiply(channels, r, r))
    return (*self[:-3], channels, multiply(self[-2], r), multiply(self[-1], r))


def pixel_unshuffle(at: OpContext, self: Value, downscale_factor: int, **_: Any) -> Value:
    """c (h r) (w r) -> (c r r) h w."""
    pin_space(at, self, 2)
    r = fixed(downscale_factor, f"factor of {at.name}")
    return (*self[:-3], multiply(self[-3], r, r), *at.fixed("space", at.shape[-2:]))


def channel_shuffle(at: OpContext, self: Value, groups: int, **_: Any) -> Value:
    """(g c) -> (c g)."""
    outer, inner = fresh(groups), fresh(at.shape[1] // groups)
    unite(self[1], multiply(outer, inner))
    return replace(self, 1, multiply(inner, outer))


def _written(arguments: Mapping[str, Any]) -> bool:
    """Whether the border is a number other than zero."""
    return arguments.get("mode", "constant") == "constant" and bool(arguments.get("value"))


CHANNELS = ((1, "1d"), (2, "2d"), (3, "3d"))
WINDOWS = {count: partial(window, count=count) for count, _ in CHANNELS}
LOCATED = {count: partial(window, count=count, outputs=2) for count, _ in CHANNELS}
BORDER = depending(lambda arguments: VANISH if _written(arguments) else LINEAR_MAP)

RULES: OpTable = {
    **row("avg_pool1d adaptive_avg_pool1d", WINDOWS[1], units=LINEAR_MAP),
    **row("avg_pool2d adaptive_avg_pool2d", WINDOWS[2], units=LINEAR_MAP),
    **row("avg_pool3d adaptive_avg_pool3d", WINDOWS[3], units=LINEAR_MAP),
    **row("upsample_nearest1d upsample_linear1d", WINDOWS[1], units=LINEAR_MAP),
    **row("upsample_nearest2d upsample_bilinear2d", WINDOWS[2], units=LINEAR_MAP),
    **row("upsample_bicubic2d _upsample_bilinear2d_aa", WINDOWS[2], units=LINEAR_MAP),
    **row("_upsample_bicubic2d_aa", WINDOWS[2], units=LINEAR_MAP),
    **row("upsample_nearest3d upsample_trilinear3d", WINDOWS[3], units=LINEAR_MAP),
    **row("max_pool1d", WINDOWS[1], units=LARGEST),
    **row("max_pool2d", WINDOWS[2], units=LARGEST),
    **row("max_pool3d", WINDOWS[3], units=LARGEST),
    **row("adaptive_max_pool1d max_pool1d_with_indices", LOCATED[1], units=LARGEST),
    **row("adaptive_max_pool2d max_pool2d_with_indices", LOCATED[2], units=LARGEST),
    **row("adaptive_max_pool3d max_pool3d_with_indices", LOCATED[3], units=LARGEST),
    **row("unfold", unfold, units=CARRY),
    # Zeros at the border are no entries of a weight, whose origin of scale does not pass them.
    **row("im2col", im2col, units=LINEAR_MAP),
    **row("col2im", col2im, units=LINEAR_MAP),
    **row("grid_sampler", sample, units=separately(input=LINEAR)),
    **row("affine_grid_generator", affine_grid, units=LINEAR_MAP),
    **row("pad constant_pad_nd", pad, units=BORDER),
    **row("pixel_shuffle", pixel_shuffle, units=CARRY),
    **row("pixel_unshuffle", pixel_unshuffle, units=CARRY),
    **row("channel_shuffle", channel_shuffle, units=CARRY),
}
