"""Matrix products: contracted axes move alike, batch axes are elementwise, the others pass."""

from __future__ import annotations

from typing import Any

from wsl.symmetry.discover.axes import Value, multiply, pin, size
from wsl.symmetry.discover.exponents import (
    ABS,
    Constraint,
    Exponents,
    OpConstraints,
    UnitRule,
    added,
    product,
)
from wsl.symmetry.discover.rules.row import OpContext, OpRules, OpTable, broadcast, row
from wsl.symmetry.discover.unify import unite


def linear(input: Value, weight: Value, bias: Value | None = None, **_: Any) -> Value:
    """y = x W^T + b."""
    unite(input[-1], weight[-1])
    out = (*input[:-1], *weight[:-1])
    return out if bias is None else broadcast(out, bias)


def _product(a: Value, b: Value) -> Value:
    """The product of `torch.matmul`; a vector is a row on the left and a column on the right."""
    batch = broadcast(a[:-2], b[:-2])
    unite(a[-1], b[-min(len(b), 2)])
    return (*batch, *a[-2:-1], *b[max(len(b) - 1, 1) :])


def matmul(self: Value, other: Value, **_: Any) -> Value:
    """Batched matrix product."""
    return _product(self, other)


def mm(self: Value, mat2: Value, **_: Any) -> Value:
    """Matrix product."""
    return _product(self, mat2)


def mv(self: Value, vec: Value, **_: Any) -> Value:
    """Matrix times vector."""
    return _product(self, vec)


def dot(self: Value, tensor: Value, **_: Any) -> Value:
    """Vector times vector."""
    return _product(self, tensor)


def vdot(self: Value, other: Value, **_: Any) -> Value:
    """Conjugate vector times vector."""
    return _product(self, other)


def addmm(self: Value, mat1: Value, mat2: Value, **_: Any) -> Value:
    """beta C + alpha A B."""
    return broadcast(self, _product(mat1, mat2))


def baddbmm(self: Value, batch1: Value, batch2: Value, **_: Any) -> Value:
    """beta C + alpha A B in batches."""
    return broadcast(self, _product(batch1, batch2))


def bilinear(
    input1: Value, input2: Value, weight: Value, bias: Value | None = None, **_: Any
) -> Value:
    """y_o = x_i W_oij z_j."""
    unite(input1[-1], weight[1])
    unite(input2[-1], weight[2])
    out = (*broadcast(input1[:-1], input2[:-1]), weight[0])
    return out if bias is None else broadcast(out, bias)


def tensordot(
    self: Value, other: Value, dims_self: list[int], dims_other: list[int], **_: Any
) -> Value:
    """Contract pairs of axes."""
    left, right = [d % len(self) for d in dims_self], [d % len(other) for d in dims_other]
    for a, b in zip(left, right, strict=True):
        unite(self[a], other[b])
    return (
        *(axis for i, axis in enumerate(self) if i not in left),
        *(axis for i, axis in enumerate(other) if i not in right),
    )


def kron(self: Value, other: Value, **_: Any) -> Value:
    """Blocks of one matrix, one for each entry of another."""
    rank = max(len(self), len(other))
    a, b = ((*[((),)] * (rank - len(value)), *value) for value in (self, other))
    return tuple(multiply(outer, inner) for outer, inner in zip(a, b, strict=True))


def outer(self: Value, vec2: Value, **_: Any) -> Value:
    """Every entry of one vector times every entry of another."""
    return (*self, *vec2)


def distance(x1: Value, x2: Value, **_: Any) -> Value:
    """Between every row of one matrix and every row of another."""
    unite(x1[-1], x2[-1])
    return (*broadcast(x1[:-2], x2[:-2]), x1[-2], x2[-2])


def grouped(
    at: OpContext,
    self: Value,
    mat2: Value,
    offs: Value | None = None,
    bias: Value | None = None,
    **_: Any,
) -> Any:
    """Consecutive rows times one matrix of a stack after another, as offsets say: rows and matrices
    cannot move.
    """
    if (len(self), len(mat2)) != (2, 3) or offs is None or bias is not None:
        return NotImplemented
    for axis in (self[0], mat2[0], *offs):
        pin(axis, f"rows of {at.name}")
    unite(self[1], mat2[1])
    return (*at.fixed("rows", at.shape[:1]), mat2[2])


def grouped_fallback(at: OpContext, input: Value, weight: Value, offs: Value, **_: Any) -> Any:
    """The same as transformers writes it where the operation is missing."""
    return grouped(at, input, weight, offs)


def einsum(equation: str, tensors: list[Value], **_: Any) -> Any:
    """A letter is an axis. No rule for a letter longer than one that is summed in one operand
    alone, nor for an implicit output.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = [
        _letters(term, len(tensor)) for term, tensor in zip(inputs.split(","), tensors, strict=True)
    ]
    dots = {letter for term in terms for letter in term if letter.startswith("...")}
    result = _letters(output, len(output.replace("...", "")) + len(dots))
    longer = [_longer(*pair) for pair in zip(terms, tensors, strict=True)]
    if not arrow or _summed_alone(longer, result):
        return NotImplemented
    axes: dict[str, Value] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        for letter, axis in zip(term, tensor, strict=True):
            axes[letter] = broadcast(axes.get(letter, ()), (axis,))
    return tuple(axes[letter][0] for letter in result)


def _longer(term: list[str], tensor: Value) -> list[str]:
    """The letters of axes longer than one."""
    return [letter for letter, axis in zip(term, tensor, strict=True) if size(axis) > 1]


def _summed_alone(terms: list[list[str]], result: list[str]) -> bool:
    """Whether an axis of one operand alone is summed."""
    once = [letter for term in terms for letter in set(term)]
    return any(once.count(letter) == 1 and letter not in result for letter in once)


def distance_units(e: Exponents, op: OpConstraints) -> None:
    """||x - y||: both are scaled alike; no sign of a coordinate is seen, if both have it."""
    for constraint in op.constraints:
        one, other = (e.total(constraint.of(name)) for name in ("x1", "x2"))
        e.equal(one, other)
        if constraint.results:
            e.give(constraint, e.through(ABS, one))
        elif e.kind != "sign":
            e.vanish(one)


def _beta(op: OpConstraints, _: Constraint) -> dict[str, float | None]:
    return {"self": float(op.arguments.get("beta", 1))}


def _letters(term: str, rank: int) -> list[str]:
    """Names of the axes; an ellipsis stands for as many as are missing, numbered from the right."""
    before, dots, after = term.partition("...")
    missing = rank - len(before) - len(after) if dots else 0
    return [*before, *(f"...{i}" for i in reversed(range(missing))), *after]


RULES: OpTable = {
    **row("einsum", einsum, units=product("tensors")),
    **row("linear", linear, units=product("input weight", biased=True)),
    **row("matmul", matmul, units=product("self other")),
    **row("mm bmm", mm, units=product("self mat2")),
    **row("mv", mv, units=product("self vec")),
    **row("dot", dot, units=product("self tensor")),
    **row("vdot", vdot, units=product("self other")),
    **row("tensordot", tensordot, units=product("self other")),
    **row("kron", kron, units=product("self other")),
    **row("outer ger", outer, units=product("self vec2")),
    **row("cdist", distance, units=UnitRule(distance_units)),
    **row("addmm", addmm, units=added("self", factors="mat1 mat2", coefficients=_beta)),
    **row("baddbmm", baddbmm, units=added("self", factors="batch1 batch2")),
    **row("_grouped_mm", grouped, units=product("self mat2")),
    **row("bilinear", bilinear, units=product("input1 input2 weight", biased=True)),
}
NAMED = {
    "transformers::grouped_mm_fallback": OpRules(grouped_fallback, product("input weight")),
}
"""Operations that other libraries register with torch, which exist only where those are imported,
by their qualified names.
"""
