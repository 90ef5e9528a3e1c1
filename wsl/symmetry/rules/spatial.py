"""Pooling, resampling and padding: positions cannot move, channels pass."""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.axes import Value, concat, fixed, fresh, multiply, pin, size
from wsl.symmetry.rules.call import Call, Rules, pin_space, replace, rows
from wsl.symmetry.unify import narrow, unite


def window(at: Call, *, count: int, outputs: int = 1, **arguments: Any) -> Value | list[Value]:
    """A function of windows over the last ``count`` axes, channel by channel."""
    value: Value = arguments.get("self", arguments.get("input", ()))
    pin_space(at, value, count)
    result = (*value[:-count], *at.fixed("space", at.shape[-count:]))
    return result if outputs == 1 else [result] * outputs


def pad(at: Call, self: Value, pad: list[int], mode: str = "constant", **_: Any) -> Value:
    """A constant border is uniform, so that the axis becomes a concatenation; any other border pins the axis."""
    result = self
    for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        if not before and not after:
            continue
        axis = self[-1 - i]
        if mode == "constant":
            length = size(axis) + min(before, 0) + min(after, 0)
            kept = narrow(axis, max(-before, 0), length)
            border = [at.uniform(max(n, 0)) for n in (before, after)]
            result = replace(result, -1 - i, concat([border[0], kept, border[1]]))
        else:
            pin(axis, f"{mode} padding of {at.name}")
            result = replace(result, -1 - i, *at.fixed("space", [size(axis) + before + after]))
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
    **rows(partial(window, count=1), "max_pool1d avg_pool1d adaptive_avg_pool1d upsample_nearest1d upsample_linear1d"),
    **rows(partial(window, count=2), "max_pool2d avg_pool2d adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d"),
    **rows(partial(window, count=3), "max_pool3d avg_pool3d adaptive_avg_pool3d upsample_nearest3d upsample_trilinear3d"),
    **rows(partial(window, count=2), "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    **rows(partial(window, count=1, outputs=2), "adaptive_max_pool1d max_pool1d_with_indices"),
    **rows(partial(window, count=2, outputs=2), "adaptive_max_pool2d max_pool2d_with_indices"),
    **rows(partial(window, count=3, outputs=2), "adaptive_max_pool3d max_pool3d_with_indices"),
    **rows(pad, "pad constant_pad_nd"),
    **rows(pixel_shuffle, "pixel_shuffle"),
    **rows(pixel_unshuffle, "pixel_unshuffle"),
    **rows(channel_shuffle, "channel_shuffle"),
}
