"""Elementwise operations: axes that meet move alike, an axis of size one is broadcast and
constrains nothing.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, size
from wsl.symmetry.discover.rules.call import Rules, broadcast, is_value, replace, rows
from wsl.symmetry.discover.unify import unite


def elementwise(**arguments: Any) -> Value:
    """Any function applied entry by entry."""
    return broadcast(*filter(is_value, arguments.values()))


def same(**arguments: Any) -> Value:
    """A copy, a cast, or a dropout, which is the identity in evaluation mode."""
    return next(filter(is_value, arguments.values()))


def prelu(self: Value, weight: Value, **_: Any) -> Value:
    """One slope, or one for each channel on axis 1."""
    return self if size(weight[0]) == 1 else replace(self, 1, unite(self[1], weight[0]))


def copy(self: Value, src: Value, **_: Any) -> Value:
    """Overwrite: the target moves as the source."""
    return broadcast(self, src)


NAMES = """
abs absolute acos acosh add addcdiv addcmul angle arctan arctan2 asin asinh atan atan2 atanh
bitwise_and bitwise_not bitwise_or bitwise_xor ceil celu clamp clamp_max clamp_min clip complex
conj conj_physical copysign cos cosh deg2rad digamma div divide elu eq erf erfc erfinv exp exp2
expm1 float_power floor floor_divide fmax fmin fmod frac ge gelu greater greater_equal gt
hardshrink hardsigmoid hardswish hardtanh heaviside hypot imag isfinite isinf isnan ldexp le
leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2
logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul
multiply nan_to_num ne neg negative not_equal polar positive pow rad2deg real reciprocal relu
relu6 remainder round rsqrt rsub selu sgn sigmoid sign silu sin sinc sinh softplus softshrink
sqrt square sub subtract tan tanh threshold true_divide trunc where xlogy
"""
SAME = """
_to_copy alias clone contiguous detach lift_fresh lift_fresh_copy resolve_conj resolve_neg to
type_as alpha_dropout dropout feature_alpha_dropout feature_dropout
"""

RULES: Rules = {
    **rows(elementwise, NAMES),
    **rows(same, SAME),
    **rows(prelu, "prelu"),
    **rows(copy, "copy"),
}
