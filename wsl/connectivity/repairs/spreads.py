"""Mean and variance of what an operation gives, from those of what it reads: a row for each.

Entries are taken to be independent and normal. A result that no row is known for, or that depends
on two uncertain values in another way than a sum or a product, has mean 0 and variance 1. Rows
return None for that too. Norms over units are taken to divide by their expected deviation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wsl.connectivity.repairs.moments import Spread
from wsl.connectivity.repairs.program import operation

Arguments = dict[str, Any]
Rule = Callable[[fx.Node, Arguments], Any]
_POINTS, _WIDEST = 121, 6.0
"""Of the integral over a normal variable, by the trapezoidal rule."""
_TINY = torch.finfo(torch.float64).tiny


def spread_after(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What is known of an operation's result; the result itself where all it reads is known."""
    read = pytree.tree_leaves((args, kwargs), is_leaf=_is_spread)
    if node.target is operator.getitem or not any(map(_is_spread, read)):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    rule = RULES.get(operation(node))
    found = None if rule is None else rule(node, _arguments(node, args, kwargs))
    return _unknown(node) if found is None else found


def _is_spread(value: object) -> bool:
    return isinstance(value, Spread)


def _arguments(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """By the names of the schema, in float64."""
    names = (argument.name for argument in node.target._schema.arguments)  # type: ignore[union-attr]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: _precise(value) for name, value in given.items()}


def _precise(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _again(node: fx.Node, arguments: Arguments, **other: Any) -> Any:
    """The operation itself on ``other`` arguments."""
    return node.target(**{**arguments, **other})  # type: ignore[operator]


def _unknown(node: fx.Node) -> Any:
    def standard(value: Any) -> Any:
        return Spread.standard(value.shape) if isinstance(value, Tensor) else value

    return pytree.tree_map(standard, node.meta["val"])


def _product(data: str, weight: str = "weight", bias: str | None = "bias") -> Rule:
    """Sums over independent entries, each times a weight that is known."""

    def rule(node: fx.Node, arguments: Arguments) -> Spread | None:
        x, w = arguments[data], arguments[weight]
        if not _is_spread(x) or _is_spread(w):
            return None
        plain = {} if arguments.get(bias or "") is None else {bias: arguments[bias].mul(0)}
        variance = _again(node, arguments, **{data: x.variance, weight: w.square(), **plain})
        return Spread(_again(node, arguments, **{data: x.mean}), variance)

    return rule


def _moved(data: str = "self") -> Rule:
    """The entries stand elsewhere; there may be several results."""

    def rule(node: fx.Node, arguments: Arguments) -> Any:
        x = arguments[data]
        parts = [_again(node, arguments, **{data: part}) for part in (x.mean, x.variance)]
        if isinstance(parts[0], Tensor):
            return Spread(*parts)
        return [Spread(*each) for each in zip(*parts, strict=True)]

    return rule


def _kept(_: fx.Node, arguments: Arguments) -> Any:
    """Nothing happens to the values."""
    return next(iter(arguments.values()))


def _padded(node: fx.Node, arguments: Arguments) -> Spread | None:
    if arguments.get("mode", "constant") != "constant":
        return _moved()(node, arguments)
    x = arguments["self"]
    variance = F.pad(x.variance, arguments["pad"])
    return Spread(_again(node, arguments, self=x.mean), variance)


def _joined(node: fx.Node, arguments: Arguments) -> Spread:
    each = [_as_spread(part) for part in arguments["tensors"]]
    means, variances = [part.mean for part in each], [part.variance for part in each]
    again = (_again(node, arguments, tensors=part) for part in (means, variances))
    return Spread(*again)


def _as_spread(value: Any) -> Spread:
    if isinstance(value, Spread):
        return value
    mean = torch.as_tensor(value, dtype=torch.float64)
    return Spread(mean, torch.zeros_like(mean))


def _sum(sign: float) -> Rule:
    def rule(_: fx.Node, arguments: Arguments) -> Spread:
        a, b = _as_spread(arguments["self"]), _as_spread(arguments["other"])
        factor = sign * arguments.get("alpha", 1)
        return Spread(a.mean + factor * b.mean, a.variance + factor**2 * b.variance)

    return rule


def _times(_: fx.Node, arguments: Arguments) -> Spread:
    a, b = _as_spread(arguments["self"]), _as_spread(arguments["other"])
    variance = a.variance * b.variance + a.variance * b.mean**2 + b.variance * a.mean**2
    return Spread(a.mean * b.mean, variance)


def _over(_: fx.Node, arguments: Arguments) -> Spread | None:
    x, by = arguments["self"], arguments["other"]
    if _is_spread(by) or arguments.get("rounding_mode") is not None:
        return None
    return Spread(x.mean / by, x.variance / by**2)


def _averaged(data: str = "self") -> Rule:
    """The mean of k independent entries has a k-th of their variance."""

    def rule(node: fx.Node, arguments: Arguments) -> Spread:
        x = arguments[data]
        mean, variance = (_again(node, arguments, **{data: each}) for each in (x.mean, x.variance))
        kernel = arguments.get("kernel_size")
        axes = x.mean.dim() - 2
        count = x.mean.numel() / mean.numel() if kernel is None else math.prod(_each(kernel, axes))
        return Spread(mean, variance / count)

    return rule


def _each(given: Any, axes: int) -> list[int]:
    """A setting of pooling for each axis."""
    each = [given] if isinstance(given, int) else list(given)
    return each * axes if len(each) == 1 else each


def _rectified(_: fx.Node, arguments: Arguments) -> Spread:
    return larger(arguments["self"], _as_spread(0.0))


def larger(a: Spread, b: Spread) -> Spread:
    """The larger of two independent normal variables: Clark (1961), equations 2 to 4."""
    std = (a.variance + b.variance).clamp(min=_TINY).sqrt()
    at = (a.mean - b.mean) / std
    first, second = torch.special.ndtr(at), torch.special.ndtr(-at)
    density = std * (-at.square() / 2).exp() / math.sqrt(2 * math.pi)
    mean = a.mean * first + b.mean * second + density
    squares = (a.mean**2 + a.variance) * first + (b.mean**2 + b.variance) * second
    squares = squares + (a.mean + b.mean) * density
    return Spread(mean, (squares - mean.square()).clamp(min=0))


def _largest(node: fx.Node, arguments: Arguments) -> Spread | None:
    """The largest of a window, by turns the larger of two; only windows without extras."""
    x, axes = arguments["self"], len(node.meta["val"].shape) - 2
    kernel = _each(arguments["kernel_size"], axes)
    stride = _each(arguments.get("stride") or kernel, axes)
    extras = [*_each(arguments.get("padding", 0), axes), arguments.get("ceil_mode", False)]
    if any(extras) or set(_each(arguments.get("dilation", 1), axes)) != {1}:
        return None
    parts = []
    for part in (x.mean, x.variance):
        for i in range(axes):
            part = part.unfold(2 + i, kernel[i], stride[i])
        parts.append(part.flatten(2 + axes).unbind(-1))
    first, *others = [Spread(*each) for each in zip(*parts, strict=True)]
    for other in others:
        first = larger(first, other)
    return first


def _pointwise(node: fx.Node, arguments: Arguments) -> Spread:
    """A function of each entry by itself, integrated over it."""
    x, (name, *_) = next(iter(arguments.values())), arguments
    z = torch.linspace(-_WIDEST, _WIDEST, _POINTS, dtype=torch.float64)
    weight, std = torch.softmax(-z.square() / 2, 0), x.variance.sqrt()
    at = [_again(node, arguments, **{name: x.mean + std * each}) for each in z.tolist()]
    mean = sum(w * y for w, y in zip(weight.tolist(), at, strict=True))
    variance = sum(w * (y - mean).square() for w, y in zip(weight.tolist(), at, strict=True))
    return Spread(torch.as_tensor(mean), torch.as_tensor(variance))


def _known(_: fx.Node, arguments: Arguments) -> Spread:
    """Batch norm gives what its gain and shift say, whatever it reads: it has been measured."""
    x, variance, eps = arguments["input"], arguments.get("running_var"), arguments["eps"]
    one = torch.ones(x.mean.shape[1], dtype=torch.float64)
    gain, shift = arguments.get("weight"), arguments.get("bias")
    kept = one if variance is None else variance / (variance + eps)
    mean = torch.zeros_like(one) if shift is None else shift
    spread = kept if gain is None else kept * gain.square()
    shape = [1, -1, *[1] * (x.mean.dim() - 2)]
    return Spread(*(each.view(shape).expand(x.mean.shape) for each in (mean, spread)))


def _normed(node: fx.Node, arguments: Arguments) -> Spread | None:
    """Norms over units divide by the deviation that is expected of all of them."""
    name = operation(node)
    x = arguments["input"]
    eps = arguments.get("eps")
    centre = name != "rms_norm"
    parts = [_in_groups(name, arguments, part) for part in (x.mean, x.variance)]
    middle = parts[0].mean(-1, keepdim=True) * int(centre)
    total = (parts[1] + (parts[0] - middle).square()).mean(-1, keepdim=True) + (eps or 0)
    mean, variance = (parts[0] - middle) / total.sqrt(), parts[1] / total
    gain, shift = (_across(arguments.get(each), x, name) for each in ("weight", "bias"))
    mean, variance = mean.view(x.mean.shape), variance.view(x.mean.shape)
    gain = 1.0 if gain is None else gain
    return Spread(mean * gain + (0.0 if shift is None else shift), variance * gain**2)


def _in_groups(name: str, arguments: Arguments, value: Tensor) -> Tensor:
    """The entries that are normed together on the last axis."""
    if name in ("layer_norm", "rms_norm"):
        return value.flatten(-len(arguments["normalized_shape"]))
    groups = arguments["num_groups"] if name == "group_norm" else value.shape[1]
    return value.reshape(value.shape[0], groups, -1)


def _across(given: Tensor | None, x: Spread, name: str) -> Tensor | None:
    if given is None or name in ("layer_norm", "rms_norm"):
        return given
    return given.view([1, -1, *[1] * (x.mean.dim() - 2)])


def _looked_up(node: fx.Node, arguments: Arguments) -> Spread:
    """Every row of the table is as likely."""
    weight, shape = arguments["weight"], node.meta["val"].shape
    return Spread(weight.mean(0).expand(shape), weight.var(0, correction=0).expand(shape))


_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
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
        "batch_norm": _known,
        **dict.fromkeys(["layer_norm", "rms_norm", "group_norm", "instance_norm"], _normed),
        "relu": _rectified,
        **dict.fromkeys(_POINTWISE, _pointwise),
        "max_pool1d": _largest,
        "max_pool2d": _largest,
        "max_pool3d": _largest,
        **dict.fromkeys([*_POOLS, *_ADAPTIVE], _averaged()),
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
