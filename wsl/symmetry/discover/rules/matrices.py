"""Functions of whole matrices: determinants, inverses, solutions of linear equations.

    det(P A P^T) = det A          |det(P A Q)| = |det A|
    (P A Q)^-1 = Q^-1 A^-1 P^-1   exp(P A P^T) = P exp(A) P^T

Rows and columns move alike where the formula needs it. Decompositions (QR, SVD, eigenvectors) have
no rule: their factors are not unique, so that what comes out is not told by what goes in.
"""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, size
from wsl.symmetry.discover.exponents import (
    RECIPROCAL,
    VANISH,
    Exponents,
    OpConstraints,
    entrywise,
    folding,
    product,
)
from wsl.symmetry.discover.rules.row import OpContext, OpTable, broadcast, row
from wsl.symmetry.discover.unify import unite


def determinant(at: OpContext, **arguments: Any) -> Any:
    """One number for each matrix; its sign needs that rows and columns move alike."""
    matrix: Value = next(iter(arguments.values()))
    signed = len(at.shapes) == 1 or at.used(0)
    at.between(matrix[:-2])
    if signed:
        unite(matrix[-2], matrix[-1])
    return matrix[:-2] if len(at.shapes) == 1 else [matrix[:-2]] * 2


def inverse(**arguments: Any) -> Value:
    """Columns become rows."""
    matrix: Value = next(iter(arguments.values()))
    return (*matrix[:-2], matrix[-1], matrix[-2])


def power(self: Value, **_: Any) -> Value:
    """A power series of a square matrix."""
    axis = unite(self[-2], self[-1])
    return (*self[:-2], axis, axis)


def solve(A: Value, B: Value, left: bool = True, **_: Any) -> Any:
    """X in A X = B, or in X A = B; B may hold vectors."""
    rows, columns = (A[-2], A[-1]) if left else (A[-1], A[-2])
    if _holds_vectors(B, A):
        unite(B[-1], rows)
        return (*broadcast(A[:-2], B[:-1]), columns) if left else NotImplemented
    unite(B[-2] if left else B[-1], rows)
    lead = broadcast(A[:-2], B[:-2])
    return (*lead, columns, B[-1]) if left else (*lead, B[-2], columns)


def _holds_vectors(B: Value, A: Value) -> bool:
    """Whether B is one vector, or one for each matrix of A."""
    return len(B) == 1 or (len(B) == len(A) - 1 and [*map(size, B)] == [*map(size, A[:-1])])


def trace(self: Value, **_: Any) -> Any:
    """The sum of the diagonal."""
    if size(self[0]) != size(self[1]):
        return NotImplemented
    unite(*self)
    return ()


def trace_units(e: Exponents, op: OpConstraints) -> None:
    """Entry (i, i) must have no exponent, that is, those of both axes cancel."""
    for constraint in op.constraints:
        if constraint.tied or e.kind == "linear":
            e.forbid(constraint)
        else:
            e.vanish(e.total([term.exponent for term in constraint.terms]))


RULES: OpTable = {
    **row("det logdet linalg_det", determinant, units=VANISH),
    **row("slogdet linalg_slogdet", determinant, units=VANISH),
    **row("inverse linalg_inv", inverse, units=entrywise(RECIPROCAL)),
    # It inverts orthogonal factors, but no others.
    **row("linalg_pinv", inverse, units=VANISH),
    **row("matrix_exp linalg_matrix_exp matrix_power linalg_matrix_power", power, units=VANISH),
    **row("linalg_solve", solve, units=product("B", divisors="A")),
    **row("trace", trace, units=folding(trace_units)),
}
