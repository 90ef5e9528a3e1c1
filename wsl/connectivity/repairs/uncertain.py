"""Mean and variance of what an operation gives, from those of what it reads: a row for each.

Entries are taken to be independent and normal. A result that no row is known for, or that depends
on two uncertain values in another way than a sum or a product, has mean 0 and variance 1. Rows
return None for that too. Norms over units are taken to divide by their expected deviation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wsl.connectivity.repairs.moments import Uncertain
from wsl.connectivity.repairs.nonlinear import (
    Arguments,
    Rule,
    again,
    as_uncertain,
    each_axis,
    is_uncertain,
    known,
    largest,
    normed,
    pointwise,
    rectified,
)
from wsl.connectivity.repairs.program import named, operation


def known_after(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What is known of an operation's result; the result itself where all it reads is known."""
    read = pytree.tree_leaves((args, kwargs), is_leaf=is_uncertain)
    if node.target is operator.getitem or not any(map(is_uncertain, read)):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    rule = RULES.get(operation(node))
    given = {name: _precise(value) for name, value in named(node, args, kwargs).items()}
    found = None if rule is None else rule(node, given)
    return _unknown(node) if found is None else found


def _precise(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _unknown(node: fx.Node) -> Any:
    def standard(value: Any) -> Any:
        return Uncertain.standard(value.shape) if isinstance(value, Tensor) else value

    return pytree.tree_map(standard, node.meta["val"])


def _given(arguments: Arguments, name: str | None) -> list[str]:
    """The name, if there is an argument that has it."""
    return [name] if name is not None and arguments.get(name) is not None else []


def _product(data: str, weight: str = "weight", bias: str | None = "bias") -> Rule:
    """Sums over independent entries, each times a weight that is known."""

    def rule(node: fx.Node, arguments: Arguments) -> Uncertain | None:
        x, w = arguments[data], arguments[weight]
        if not is_uncertain(x) or is_uncertain(w):
            return None
        added = {name: torch.zeros_like(arguments[name]) for name in _given(arguments, bias)}
        squared = {data: x.variance, weight: w.square(), **added}
        return Uncertain(
            again(node, arguments, **{data: x.mean}), again(node, arguments, **squared)
        )

    return rule


def _moved(data: str = "self") -> Rule:
    """The entries stand elsewhere; there may be several results."""

    def rule(node: fx.Node, arguments: Arguments) -> Any:
        x = arguments[data]
        parts = [again(node, arguments, **{data: part}) for part in (x.mean, x.variance)]
        if isinstance(parts[0], Tensor):
            return Uncertain(*parts)
        return [Uncertain(*each) for each in zip(*parts, strict=True)]

    return rule


def _kept(_: fx.Node, arguments: Arguments) -> Any:
    """Nothing happens to the values."""
    return next(iter(arguments.values()))


def _padded(node: fx.Node, arguments: Arguments) -> Uncertain | None:
    if arguments.get("mode", "constant") != "constant":
        return _moved()(node, arguments)
    x = arguments["self"]
    variance = F.pad(x.variance, arguments["pad"])
    return Uncertain(again(node, arguments, self=x.mean), variance)


def _joined(node: fx.Node, arguments: Arguments) -> Uncertain:
    each = [as_uncertain(part) for part in arguments["tensors"]]
    means, variances = [part.mean for part in each], [part.variance for part in each]
    return Uncertain(*(again(node, arguments, tensors=part) for part in (means, variances)))


def _sum(sign: float) -> Rule:
    def rule(_: fx.Node, arguments: Arguments) -> Uncertain:
        a, b = as_uncertain(arguments["self"]), as_uncertain(arguments["other"])
        factor = sign * arguments.get("alpha", 1)
        return Uncertain(a.mean + factor * b.mean, a.variance + factor**2 * b.variance)

    return rule


def _times(_: fx.Node, arguments: Arguments) -> Uncertain:
    a, b = as_uncertain(arguments["self"]), as_uncertain(arguments["other"])
    variance = a.variance * b.variance + a.variance * b.mean**2 + b.variance * a.mean**2
    return Uncertain(a.mean * b.mean, variance)


def _over(_: fx.Node, arguments: Arguments) -> Uncertain | None:
    x, by = arguments["self"], arguments["other"]
    if is_uncertain(by) or arguments.get("rounding_mode") is not None:
        return None
    return Uncertain(x.mean / by, x.variance / by**2)


def _averaged(node: fx.Node, arguments: Arguments) -> Uncertain:
    """The mean of k independent entries has a k-th of their variance."""
    x = arguments["self"]
    mean, variance = (again(node, arguments, self=each) for each in (x.mean, x.variance))
    count = x.mean.numel() / mean.numel()
    if "kernel_size" in arguments:
        count = math.prod(each_axis(arguments["kernel_size"], x.mean.dim() - 2))
    return Uncertain(mean, variance / count)


def _looked_up(node: fx.Node, arguments: Arguments) -> Uncertain:
    """Every row of the table is as likely."""
    weight, shape = arguments["weight"], node.meta["val"].shape
    return Uncertain(weight.mean(0).expand(shape), weight.var(0, correction=0).expand(shape))


_CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
_ELSEWHERE = (
    *("flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "movedim"),
    *("select", "slice", "expand", "repeat", "pixel_shuffle", "pixel_unshuffle", "chunk", "split"),
    *("unbind", "t", "numpy_T", "mT", "flip", "roll", "index_select", "channel_shuffle"),
    *("_unsafe_view", "narrow", "unflatten", "split_with_sizes"),
)
_POINTWISE = (
    *("gelu", "silu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "celu", "softplus", "mish"),
    *("hardtanh", "relu6", "hardswish", "hardsigmoid", "softsign", "log_sigmoid", "sin", "cos"),
    *("exp", "abs", "erf", "square", "neg"),
)
_POOLS = ("avg_pool1d", "avg_pool2d", "avg_pool3d", "mean")
_ADAPTIVE = ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "linear": _product("input"),
        **dict.fromkeys(
            [*_CONVOLUTIONS, *(f"conv_transpose{i}d" for i in "123")], _product("input")
        ),
        "addmm": _product("mat1", "mat2", "self"),
        "mm": _product("self", "mat2", None),
        "matmul": _product("self", "other", None),
        "embedding": _looked_up,
        "batch_norm": known,
        **dict.fromkeys(["layer_norm", "rms_norm", "group_norm", "instance_norm"], normed),
        "relu": rectified,
        **dict.fromkeys(_POINTWISE, pointwise),
        "max_pool1d": largest,
        "max_pool2d": largest,
        "max_pool3d": largest,
        **dict.fromkeys([*_POOLS, *_ADAPTIVE], _averaged),
        "add": _sum(1),
        "sub": _sum(-1),
        "mul": _times,
        "div": _over,
        **dict.fromkeys(_ELSEWHERE, _moved()),
        **dict.fromkeys(["dropout", "feature_dropout", "alias", "detach", "clone"], _kept),
        **dict.fromkeys(["contiguous", "to", "_to_copy"], _kept),
        "pad": _padded,
        "constant_pad_nd": _padded,
        **dict.fromkeys(["cat", "stack"], _joined),
    }
)
"""The operations whose result has a closed form."""
