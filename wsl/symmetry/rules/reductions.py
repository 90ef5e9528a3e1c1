"""Reductions: a symmetric function along an axis does not see a permutation of it; the other axes pass."""

from __future__ import annotations

from typing import Any

from wsl.symmetry.axes import Value
from wsl.symmetry.rules.call import Call, Rules, broadcast, replace, rows

ONE: Value = (((),),)


def reduction(self: Value, dim: int | list[int] | None = None, keepdim: bool = False, **_: Any) -> Value:
    """Reduce the axes ``dim``, or all of them."""
    dims = [dim] if isinstance(dim, int) else dim
    gone = {d % len(self) for d in dims} if dims and self else set(range(len(self)))
    return tuple(ONE[0] if i in gone else axis for i, axis in enumerate(self) if keepdim or i not in gone)


def extremum(self: Value, dim: Any = None, other: Value | None = None, **_: Any) -> Any:
    """Of everything, or of two tensors; with ``dim`` they return positions too, which move: no rule for those."""
    if other is not None:
        return broadcast(self, other)
    return NotImplemented if dim is not None else ()


def along(at: Call, self: Value, dim: int, **_: Any) -> Value:
    """Softmax and its kin: equivariant along the axis that is normalized, by a sum over it."""
    at.between(replace(self, dim) if self else ())
    return self


RULES: Rules = {
    **rows(reduction, "all amax amin any count_nonzero linalg_vector_norm logsumexp mean nanmean nansum norm prod std sum var"),
    **rows(extremum, "max min"),
    **rows(along, "softmax log_softmax _softmax _log_softmax"),
}
