"""Normalizations: statistics are symmetric functions along an axis; affine parameters and running
statistics move with it.

A group norm's channel axis is G x (C / G): statistics are shared inside a group, so only that
product may move.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Value, fresh, multiply, size
from wsl.symmetry.discover.exponents import (
    INVERSE_ROOT,
    NONE,
    Constraint,
    Exponents,
    LinearForm,
    OpConstraints,
    UnitRule,
    lacks,
    plus,
)
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row
from wsl.symmetry.discover.unify import unite


def channel_norm(
    at: OpContext,
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
    at: OpContext,
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
    at: OpContext,
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


def weight_norm(at: OpContext, v: Value, g: Value, dim: int = 0, **_: Any) -> Any:
    """v / ||v|| times g, with a norm for each position of one axis, or one for all."""
    if len(g) != len(v):
        return v if all(size(axis) == 1 for axis in g) else NotImplemented
    at.between((v[dim],))
    return broadcast(v, g)


def batch_norm_units(e: Exponents, op: OpConstraints) -> None:
    """With running statistics; with those of the batch, signs pass."""
    for constraint in op.constraints:
        if not _channels(constraint) or e.kind == "linear":
            e.forbid(constraint)
        elif op.arguments.get("training") or op.arguments.get("running_mean") is None:
            _affine(e, op, constraint, _statistics(e, constraint))
        else:
            _affine(e, op, constraint, _running(e, op, constraint))


def instance_norm_units(e: Exponents, op: OpConstraints) -> None:
    """Statistics of each channel of each sample."""
    for constraint in op.constraints:
        if _channels(constraint) and op.arguments.get("use_input_stats") and e.kind != "linear":
            _affine(e, op, constraint, _statistics(e, constraint))
        else:
            e.forbid(constraint)


def _channels(constraint: Constraint) -> bool:
    return all(term.axis == 1 for term in constraint.terms if term.argument == "input")


def _statistics(e: Exponents, constraint: Constraint) -> LinearForm:
    form = e.total(constraint.of("input"))
    return form if e.kind == "sign" else e.through(NONE, form)


def _running(e: Exponents, op: OpConstraints, constraint: Constraint) -> LinearForm:
    form, eps = e.total(constraint.of("input")), float(op.arguments.get("eps", 0.0))
    means = [e.use(exponent) for exponent in constraint.of("running_mean")] or [{}]
    for mean in means:
        e.equal(form, mean)
    for exponent in constraint.of("running_var"):
        form = plus(form, e.through(INVERSE_ROOT, e.use(exponent, eps)))
    return form


def _affine(e: Exponents, op: OpConstraints, constraint: Constraint, form: LinearForm) -> None:
    form = plus(form, e.total(constraint.of("weight")))
    for exponent in constraint.of("bias"):
        e.equal(form, e.use(exponent))
    if lacks(constraint, op.arguments.get("bias"), "bias"):
        e.vanish(form)
        form = {}
    e.give(constraint, form)


def layer_norm_units(e: Exponents, op: OpConstraints, *, signs: bool) -> None:
    """Statistics over the last axes; ``signs``: they do not see the sign of any single unit."""
    first = len(op.outputs[0]) - len(op.arguments["normalized_shape"])
    for constraint in op.constraints:
        axes = [term.axis for term in constraint.terms if term.argument == "input"]
        inside = all(axis >= first for axis in axes)
        if e.kind == "linear" or not (inside or all(axis < first for axis in axes)):
            e.forbid(constraint)
            continue
        # Outside, a row is normalized as a whole and its sign passes; inside, the sign of a single
        # entry passes only where no mean is subtracted.
        passes = e.kind == "sign" and (signs or not inside)
        form = _input_form(e, constraint, passes=passes)
        (_affine if inside else _outside)(e, op, constraint, form)


def _input_form(e: Exponents, constraint: Constraint, *, passes: bool) -> LinearForm:
    """The exponent of a normalized input, which is that of the input or must vanish."""
    form = e.total(constraint.of("input"))
    if passes:
        return form
    e.vanish(form)
    return {}


def _outside(e: Exponents, op: OpConstraints, constraint: Constraint, form: LinearForm) -> None:
    """Units along which the shift of a layer norm is the same."""
    if op.arguments.get("bias") is not None:
        e.vanish(form)
        form = {}
    e.give(constraint, form)


def group_norm_units(e: Exponents, op: OpConstraints) -> None:
    """Channels of a group are mixed."""
    for constraint in op.constraints:
        if not _channels(constraint) or e.kind == "linear":
            e.forbid(constraint)
            continue
        e.vanish(e.total(constraint.of("input")))
        _affine(e, op, constraint, {})


def weight_norm_units(e: Exponents, op: OpConstraints) -> None:
    """g v / ||v||: the length of v does not matter for each position of one axis, on the others its
    entries are mixed.
    """
    dim = op.arguments.get("dim", 0)
    for constraint in op.constraints:
        direction, length = e.total(constraint.of("v")), e.total(constraint.of("g"))
        if e.kind == "linear":
            e.forbid(constraint)
            continue
        if e.kind == "scale":
            if any(
                term.axis != dim for term in constraint.terms if term.argument == "v"
            ) or not constraint.of("g"):
                e.vanish(direction)
            direction = {}
        e.give(constraint, plus(direction, length))


RULES: OpTable = {
    **row("batch_norm", channel_norm, units=UnitRule(batch_norm_units)),
    **row("instance_norm", channel_norm, units=UnitRule(instance_norm_units)),
    **row("layer_norm", layer_norm, units=UnitRule(partial(layer_norm_units, signs=False))),
    **row("rms_norm", layer_norm, units=UnitRule(partial(layer_norm_units, signs=True))),
    **row("group_norm", group_norm, units=UnitRule(group_norm_units)),
    **row("_weight_norm", weight_norm, units=UnitRule(weight_norm_units)),
}
