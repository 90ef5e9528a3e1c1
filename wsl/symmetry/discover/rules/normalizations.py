"""Normalizations: statistics are symmetric functions along an axis; affine parameters and running
statistics move with it.

A group norm's channel axis is G x (C / G): statistics are shared inside a group, so only that
product may move.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, fresh, multiply, size
from wsl.symmetry.discover.rules.call import Call, Rules, broadcast, replace, rows
from wsl.symmetry.discover.unify import unite


def channel_norm(
    at: Call,
    input: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    running_mean: Value | None = None,
    running_var: Value | None = None,
    **_: Any,
) -> Value:
    """Batch norm and instance norm: statistics of each channel on axis 1."""
    channels = input[1]
    at.between((channels,))
    for own in (weight, bias, running_mean, running_var):
        channels = channels if own is None else unite(channels, own[0])
    return replace(input, 1, channels)


def layer_norm(
    at: Call,
    input: Value,
    normalized_shape: list[int],
    weight: Value | None = None,
    bias: Value | None = None,
    **_: Any,
) -> Value:
    """Layer norm and RMS norm: statistics over the last axes, one affine parameter for each of
    their positions.
    """
    at.between(input[: -len(normalized_shape)])
    result = input
    for own in (weight, bias):
        if own is not None:
            result = (*result[: -len(own)], *map(unite, result[-len(own) :], own))
    return result


def group_norm(
    at: Call,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    **_: Any,
) -> Value:
    """Statistics over the channels of each group, and over space."""
    groups = fresh(num_groups)
    channels = unite(input[1], multiply(groups, fresh(size(input[1]) // num_groups)))
    at.between((input[0], groups))
    for own in (weight, bias):
        channels = channels if own is None else unite(channels, own[0])
    return replace(input, 1, channels)


def weight_norm(at: Call, v: Value, g: Value, dim: int = 0, **_: Any) -> Any:
    """v / ||v|| times g, with a norm for each position of one axis, or one for all."""
    if len(g) != len(v):
        return v if all(size(axis) == 1 for axis in g) else NotImplemented
    at.between((v[dim],))
    return broadcast(v, g)


RULES: Rules = {
    **rows(channel_norm, "batch_norm instance_norm"),
    **rows(layer_norm, "layer_norm rms_norm"),
    **rows(group_norm, "group_norm"),
    **rows(weight_norm, "_weight_norm"),
}
