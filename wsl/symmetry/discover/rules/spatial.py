"""Pooling, resampling, windows and padding: positions in space cannot move, channels pass."""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.discover import axes
from wsl.symmetry.discover.axes import Axis, Value, concat, fixed, fresh, multiply, pin
from wsl.symmetry.discover.lazy import factor
from wsl.symmetry.discover.rules.call import Call, Rules, pin_space, replace, rows
from wsl.symmetry.discover.unify import narrow, unite


def window(at: Call, *, count: int, outputs: int = 1, **arguments: Any) -> Value | list[Value]:
    """A function of windows over the last ``count`` axes, channel by channel. Windows of one entry
    leave their axis alone.

    Not if positions are returned too, because those count through all axes.
    """
    value: Value = arguments.get("self", arguments.get("input", ()))
    lead, result = len(value) - count, value
    for i, (old, new) in enumerate(zip(axes.shape(value)[lead:], at.shape[lead:], strict=True)):
        if outputs > 1 or not _by_entries(i, old, new, **arguments):
            whole = "adaptive_avg" in at.name and new == 1
            result = replace(result, lead + i, ((),) if whole else _space(at, value[lead + i], new))
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


def _space(at: Call, axis: Axis, length: int) -> Axis:
    pin(axis, f"space of {at.name}")
    return at.fixed("space", [length])[0]


def unfold(at: Call, self: Value, dimension: int, size: int, step: int, **_: Any) -> Value:
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


def im2col(at: Call, self: Value, **_: Any) -> Value:
    """.. c h w -> .. (c window) position."""
    pin_space(at, self, 2)
    window = fixed(at.shape[-2] // axes.size(self[-3]), f"window of {at.name}")
    return (*self[:-3], multiply(self[-3], window), *at.fixed("space", at.shape[-1:]))


def col2im(at: Call, self: Value, **_: Any) -> Value:
    """.. (c window) position -> .. c h w, a sum over windows."""
    pin_space(at, self, 1)
    channels = fresh(at.shape[-3])
    unite(
        self[-2],
        multiply(channels, fixed(axes.size(self[-2]) // at.shape[-3], f"window of {at.name}")),
    )
    return (*self[:-2], channels, *at.fixed("space", at.shape[-2:]))


def sample(at: Call, input: Value, grid: Value, **_: Any) -> Value:
    """n c *space, read at positions n *places: coordinates and space cannot move, channels and
    places pass.
    """
    pin_space(at, input, len(grid) - 2)
    pin(grid[-1], f"coordinates of {at.name}")
    return (unite(input[0], grid[0]), input[1], *grid[1:-1])


def affine_grid(at: Call, theta: Value, **_: Any) -> Value:
    """Coordinates of every position after an affine map, one for each image."""
    for axis in theta[1:]:
        pin(axis, f"coordinates of {at.name}")
    return (theta[0], *at.fixed("coordinates", at.shape[1:]))


def pad(at: Call, self: Value, pad: list[int], mode: str = "constant", **_: Any) -> Value:
    """A constant border is uniform, so that the axis becomes a concatenation; any other border pins
    the axis.
    """
    result = self
    for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        if not before and not after:
            continue
        axis = self[-1 - i]
        if mode == "constant":
            length = axes.size(axis) + min(before, 0) + min(after, 0)
            kept = narrow(axis, max(-before, 0), length)
            border = [at.uniform(max(n, 0)) for n in (before, after)]
            result = replace(result, -1 - i, concat([border[0], kept, border[1]]))
        else:
            pin(axis, f"{mode} padding of {at.name}")
            result = replace(result, -1 - i, *at.fixed("space", [axes.size(axis) + before + after]))
    return result


def pixel_shuffle(at: Call, self: Value, upscale_factor: int, **_: Any) -> Value:
    """(c r r) h w -> c (h r) (w r)."""
    r = fixed(upscale_factor, f"factor of {at.name}")
    channels = fresh(at.shape[-3])
    unite(self[-3], multiply(channels, r, r))
    return (*self[:-3], channels, multiply(self[-2], r), multiply(self[-1], r))


def pixel_unshuffle(at: Call, self: Value, downscale_factor: int, **_: Any) -> Value:
    """c (h r) (w r) -> (c r r) h w."""
    pin_space(at, self, 2)
    r = fixed(downscale_factor, f"factor of {at.name}")
    return (*self[:-3], multiply(self[-3], r, r), *at.fixed("space", at.shape[-2:]))


def channel_shuffle(at: Call, self: Value, groups: int, **_: Any) -> Value:
    """(g c) -> (c g)."""
    outer, inner = fresh(groups), fresh(at.shape[1] // groups)
    unite(self[1], multiply(outer, inner))
    return replace(self, 1, multiply(inner, outer))


RULES: Rules = {
    **rows(
        partial(window, count=1),
        "max_pool1d avg_pool1d adaptive_avg_pool1d upsample_nearest1d upsample_linear1d",
    ),
    **rows(
        partial(window, count=2),
        "max_pool2d avg_pool2d adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d",
    ),
    **rows(
        partial(window, count=3),
        "max_pool3d avg_pool3d adaptive_avg_pool3d upsample_nearest3d upsample_trilinear3d",
    ),
    **rows(
        partial(window, count=2),
        "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    ),
    **rows(partial(window, count=1, outputs=2), "adaptive_max_pool1d max_pool1d_with_indices"),
    **rows(partial(window, count=2, outputs=2), "adaptive_max_pool2d max_pool2d_with_indices"),
    **rows(partial(window, count=3, outputs=2), "adaptive_max_pool3d max_pool3d_with_indices"),
    **rows(unfold, "unfold"),
    **rows(im2col, "im2col"),
    **rows(col2im, "col2im"),
    **rows(sample, "grid_sampler"),
    **rows(affine_grid, "affine_grid_generator"),
    **rows(pad, "pad constant_pad_nd"),
    **rows(pixel_shuffle, "pixel_shuffle"),
    **rows(pixel_unshuffle, "pixel_unshuffle"),
    **rows(channel_shuffle, "channel_shuffle"),
}
