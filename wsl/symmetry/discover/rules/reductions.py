"""Reductions: a symmetric function along an axis does not see a permutation of it; the other axes
pass.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value
from wsl.symmetry.discover.rules.call import Call, Rules, broadcast, replace, rows

ONE: Value = (((),),)


def reduction(
    self: Value, dim: int | list[int] | None = None, keepdim: bool = False, **_: Any
) -> Value:
    """Reduce the axes ``dim``, or all of them."""
    dims = [dim] if isinstance(dim, int) else dim
    gone = {d % len(self) for d in dims} if dims and self else set(range(len(self)))
    return tuple(
        ONE[0] if i in gone else axis for i, axis in enumerate(self) if keepdim or i not in gone
    )


def moments(
    at: Call, self: Value, dim: int | list[int] | None = None, keepdim: bool = False, **_: Any
) -> list[Value]:
    """Two reductions at once: variance and mean, smallest and largest."""
    return [reduction(self, dim, keepdim)] * len(at.shapes)


def cosine(x1: Value, x2: Value, dim: int = 1, **_: Any) -> Value:
    """The cosine between two tensors along an axis."""
    return reduction(broadcast(x1, x2), dim)


def along(at: Call, self: Value, dim: int, **_: Any) -> Value:
    """Softmax and its kin: equivariant along the axis that is normalized, by a sum over it."""
    at.between(replace(self, dim) if self else ())
    return self


RULES: Rules = {
    **rows(
        reduction,
        "all amax amin any count_nonzero linalg_vector_norm logsumexp mean nanmean nansum norm "
        "prod std sum var",
    ),
    **rows(moments, "var_mean std_mean aminmax"),
    **rows(cosine, "cosine_similarity"),
    **rows(along, "softmax log_softmax _softmax _log_softmax"),
}
