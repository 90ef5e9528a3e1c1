"""Mean and variance of maxima, functions of one entry, and norms, of normal variables.

    max(a, b)   m = m_a F(t) + m_b F(-t) + s f(t)                      s^2 = v_a + v_b
                E[max^2] = (m_a^2 + v_a) F(t) + (m_b^2 + v_b) F(-t) + (m_a + m_b) s f(t)
                t = (m_a - m_b) / s

Clark (1961), doi 10.1287/opre.9.2.145, equations 2 to 4. Functions without a closed form are
integrated by the trapezoidal rule over six deviations to either side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from wsl.connectivity.repairs.moments import Uncertain
from wsl.connectivity.repairs.program import operation

Arguments = dict[str, Any]
Rule = Callable[[fx.Node, Arguments], Any]
_POINTS, _WIDEST = 121, 6.0
_PLAIN = {"padding": 0, "dilation": 1}
_TINY = torch.finfo(torch.float64).tiny


def is_uncertain(value: object) -> bool:
    """Whether a value is known by its moments alone."""
    return isinstance(value, Uncertain)


def as_uncertain(value: Any) -> Uncertain:
    """A value that may be certain, with variance 0."""
    if isinstance(value, Uncertain):
        return value
    mean = torch.as_tensor(value, dtype=torch.float64)
    return Uncertain(mean, torch.zeros_like(mean))


def again(node: fx.Node, arguments: Arguments, **other: Any) -> Any:
    """The operation itself on ``other`` arguments."""
    return node.target(**{**arguments, **other})  # type: ignore[operator]


def rectified(_: fx.Node, arguments: Arguments) -> Uncertain:
    """The larger of an entry and 0."""
    return larger(arguments["self"], as_uncertain(0.0))


def larger(a: Uncertain, b: Uncertain) -> Uncertain:
    """The larger of two independent normal variables: Clark (1961), equations 2 to 4."""
    std = (a.variance + b.variance).clamp(min=_TINY).sqrt()
    at = (a.mean - b.mean) / std
    first, second = torch.special.ndtr(at), torch.special.ndtr(-at)
    density = std * (-at.square() / 2).exp() / math.sqrt(2 * math.pi)
    mean = a.mean * first + b.mean * second + density
    squares = _square(a) * first + _square(b) * second + (a.mean + b.mean) * density
    return Uncertain(mean, (squares - mean.square()).clamp(min=0))


def _square(x: Uncertain) -> Tensor:
    """The mean of the square."""
    return x.mean.square() + x.variance


def largest(node: fx.Node, arguments: Arguments) -> Uncertain | None:
    """The largest of a window, by turns the larger of two; only windows without extras."""
    x, axes = arguments["self"], len(node.meta["val"].shape) - 2
    if _has_extras(arguments):
        return None
    kernel = each_axis(arguments["kernel_size"], axes)
    stride = each_axis(arguments.get("stride") or kernel, axes)
    parts = (_in_windows(part, kernel, stride) for part in (x.mean, x.variance))
    return functools.reduce(larger, (Uncertain(*each) for each in zip(*parts, strict=True)))


def _has_extras(arguments: Arguments) -> bool:
    """Whether windows of pooling have padding or gaps, or stick out."""
    padding, dilation = (each_axis(arguments.get(k, d), 1) for k, d in _PLAIN.items())
    return any(padding) or set(dilation) != {1} or bool(arguments.get("ceil_mode"))


def _in_windows(value: Tensor, kernel: list[int], stride: list[int]) -> tuple[Tensor, ...]:
    """A tensor for each place in a window, over all windows."""
    for i, (size, step) in enumerate(zip(kernel, stride, strict=True)):
        value = value.unfold(2 + i, size, step)
    return value.flatten(2 + len(kernel)).unbind(-1)


def each_axis(given: Any, axes: int) -> list[int]:
    """A setting of pooling for each axis."""
    each = [given] if isinstance(given, int) else list(given)
    return each * axes if len(each) == 1 else each


def pointwise(node: fx.Node, arguments: Arguments) -> Uncertain:
    """A function of each entry by itself, integrated over it."""
    name, x = next(iter(arguments.items()))
    std, points = x.variance.sqrt(), torch.linspace(-_WIDEST, _WIDEST, _POINTS).double()
    at = [again(node, arguments, **{name: x.mean + std * each}) for each in points.tolist()]
    mean = _integral(points, at)
    return Uncertain(mean, _integral(points, [(y - mean).square() for y in at]))


def _integral(points: Tensor, values: list[Tensor]) -> Tensor:
    """The mean of a function of a normal variable, from its values at some points."""
    weights = torch.softmax(-points.square() / 2, 0).tolist()
    return torch.as_tensor(sum(w * y for w, y in zip(weights, values, strict=True)))


def known(_: fx.Node, arguments: Arguments) -> Uncertain:
    """Batch norm gives what its gain and shift say, whatever it reads: it has been measured."""
    x, variance = arguments["input"], arguments.get("running_var")
    one = torch.ones(x.mean.shape[1]).double()
    mean, gain = _affine(arguments)
    spread = one if variance is None else variance / (variance + arguments["eps"])
    each = (_across(part, x, "batch_norm") for part in (one * mean, spread * gain**2))
    return Uncertain(*(part.expand(x.mean.shape) for part in each))


def _affine(arguments: Arguments) -> tuple[Any, Any]:
    """Shift and gain of a norm; 0 and 1 where it has none."""
    shift, gain = arguments.get("bias"), arguments.get("weight")
    return 0.0 if shift is None else shift, 1.0 if gain is None else gain


def normed(node: fx.Node, arguments: Arguments) -> Uncertain:
    """Norms over units divide by the deviation that is expected of all of them."""
    name, x = operation(node), arguments["input"]
    inside = Uncertain(*(_in_groups(name, arguments, part) for part in (x.mean, x.variance)))
    mean, variance = _divided(inside, arguments.get("eps") or 0.0, centred=name != "rms_norm")
    shift, gain = (_across(each, x, name) for each in _affine(arguments))
    shape = x.mean.shape
    return Uncertain(mean.view(shape) * gain + shift, variance.view(shape) * gain**2)


def _divided(x: Uncertain, eps: float, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance after a norm over the last axis."""
    mean = x.mean - x.mean.mean(-1, keepdim=True) if centred else x.mean
    total = (x.variance + mean.square()).mean(-1, keepdim=True) + eps
    return mean / total.sqrt(), x.variance / total


def _in_groups(name: str, arguments: Arguments, value: Tensor) -> Tensor:
    """The entries that are normed together on the last axis."""
    if name in ("layer_norm", "rms_norm"):
        return value.flatten(-len(arguments["normalized_shape"]))
    groups = arguments["num_groups"] if name == "group_norm" else value.shape[1]
    return value.reshape(value.shape[0], groups, -1)


def _across(given: Any, x: Uncertain, name: str) -> Any:
    if not isinstance(given, Tensor) or name in ("layer_norm", "rms_norm"):
        return given
    return given.view([1, -1, *[1] * (x.mean.dim() - 2)])
