"""Reductions: a symmetric function along an axis does not see a permutation of it; the other axes
pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Value, shape
from wsl.symmetry.discover.exponents import (
    ABS,
    BLIND,
    LARGEST,
    LINEAR,
    LINEAR_MAP,
    POSITIVE,
    SQUARE,
    VANISH,
    Exponents,
    OpConstraints,
    ScalarFunction,
    UnitRule,
    depending,
    reduction,
)
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, replace, row

ONE: Value = (((),),)


def reduction_axes(
    self: Value, dim: int | list[int] | None = None, keepdim: bool = False, **_: Any
) -> Value:
    """Reduce the axes ``dim``, or all of them."""
    dims = [dim] if isinstance(dim, int) else dim
    gone = {d % len(self) for d in dims} if dims and self else set(range(len(self)))
    return tuple(
        ONE[0] if i in gone else axis for i, axis in enumerate(self) if keepdim or i not in gone
    )


def moments(
    at: OpContext, self: Value, dim: int | list[int] | None = None, keepdim: bool = False, **_: Any
) -> list[Value]:
    """Two reductions at once: variance and mean, smallest and largest."""
    return [reduction_axes(self, dim, keepdim)] * len(at.shapes)


def cosine(x1: Value, x2: Value, dim: int = 1, **_: Any) -> Value:
    """The cosine between two tensors along an axis."""
    return reduction_axes(broadcast(x1, x2), dim)


def along(at: OpContext, self: Value, dim: int, **_: Any) -> Value:
    """Softmax and its kin: equivariant along the axis that is normalized, by a sum over it."""
    at.between(replace(self, dim) if self else ())
    return self


def norm_units(arguments: Mapping[str, Any]) -> UnitRule:
    """(sum |x|^p)^(1/p), which sees no sign of a single entry; for p = 0 it counts entries."""
    counts = arguments.get("ord", arguments.get("p", 2)) == 0
    return reduction(BLIND, blind=REAL) if counts else reduction(ABS, blind=("sign",))


def product_units(e: Exponents, op: OpConstraints) -> None:
    """The product of n entries has degree n."""
    entries, results = (math.prod(shape(v)) for v in (op.arguments["self"], op.outputs[0]))
    count = entries // max(results, 1)
    reduction(ScalarFunction(Fraction(count), count % 2)).equations(e, op)


def cosine_units(e: Exponents, op: OpConstraints) -> None:
    """x y / (|x| |y|): signs multiply. Lengths are bounded from below, so that no scale passes."""
    for constraint in op.constraints:
        form = e.total([term.exponent for term in constraint.terms])
        if e.kind != "sign":
            e.forbid(constraint)
        elif constraint.results:
            e.give(constraint, form)
        else:
            e.vanish(form)


NAN_LINEAR = ScalarFunction(LINEAR.degree, LINEAR.parity)
REAL = ("scale", "sign")

RULES: OpTable = {
    **row("sum mean", reduction_axes, units=LINEAR_MAP),
    # Which entries are numbers does not change; but a matrix would spread what is none.
    **row("nansum nanmean", reduction_axes, units=reduction(NAN_LINEAR)),
    **row("amax amin", reduction_axes, units=LARGEST),
    **row("aminmax", moments, units=reduction(POSITIVE, POSITIVE)),
    **row("var", reduction_axes, units=reduction(SQUARE)),
    **row("std", reduction_axes, units=reduction(ABS)),
    **row("var_mean", moments, units=reduction(SQUARE, LINEAR)),
    **row("std_mean", moments, units=reduction(ABS, LINEAR)),
    **row("norm linalg_norm linalg_vector_norm", reduction_axes, units=depending(norm_units)),
    **row("linalg_matrix_norm", partial(reduction_axes, dim=[-2, -1]), units=depending(norm_units)),
    **row("prod", reduction_axes, units=UnitRule(product_units)),
    **row("all any count_nonzero", reduction_axes, units=reduction(BLIND, blind=REAL)),
    **row("logsumexp", reduction_axes, units=VANISH),
    **row("cosine_similarity", cosine, units=UnitRule(cosine_units)),
    **row("softmax log_softmax _softmax _log_softmax", along, units=VANISH),
}
