"""Reshapes factor axes into products and multiply them; transposes reorder; expansion makes uniform axes."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Any

from wsl.symmetry.axes import Value, multiply, shape
from wsl.symmetry.lazy import factor
from wsl.symmetry.rules.call import Call, Rules, rows


def reshape(at: Call, self: Value, **_: Any) -> Value:
    """Row-major: axes between two positions where the products of sizes agree are multiplied and factored anew."""
    result: list[Any] = []
    for old, new in _blocks(shape(self), at.shape):
        before = self[slice(*old)]
        if len(before) == 1 == new[1] - new[0]:
            result += before
            continue
        result += factor(multiply(*before), at.shape[slice(*new)]) if new[0] < new[1] else []
    return tuple(result)


def _blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ranges of old and new axes that hold the same entries, as short as possible."""
    ends = [list(accumulate(sizes, mul)) for sizes in (old, new)]
    blocks, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        a, b = i, j
        while ends[0][a] != ends[1][b]:
            a, b = (a + 1, b) if ends[0][a] < ends[1][b] else (a, b + 1)
        blocks.append(((i, a + 1), (j, b + 1)))
        i, j = a + 1, b + 1
    return [*blocks, ((i, len(old)), (j, len(new)))]


def permute(self: Value, dims: list[int], **_: Any) -> Value:
    """Reorder axes."""
    return tuple(self[d] for d in dims)


def transpose(self: Value, dim0: int, dim1: int, **_: Any) -> Value:
    """Exchange two axes."""
    order = list(range(len(self)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return tuple(self[d] for d in order)


def reverse(self: Value, **_: Any) -> Value:
    """The transpose of a matrix, and `Tensor.T`."""
    return self[::-1]


def adjoint(self: Value, **_: Any) -> Value:
    """Exchange the last two axes."""
    return (*self[:-2], self[-1], self[-2])


def movedim(self: Value, source: int | list[int], destination: int | list[int], **_: Any) -> Value:
    """Move axes to new places, the others keep their order."""
    places = [source] if isinstance(source, int) else source, [destination] if isinstance(destination, int) else destination
    to = {d % len(self): s % len(self) for s, d in zip(*places, strict=True)}
    others = iter([d for d in range(len(self)) if d not in to.values()])
    return tuple(self[to[d] if d in to else next(others)] for d in range(len(self)))


def expand(at: Call, self: Value, **_: Any) -> Value:
    """Repeat axes of size one, and add axes on the left; the result is uniform along them."""
    new = len(at.shape) - len(self)
    old = (*((((),),) * new), *self)
    return tuple(axis if n == m else at.uniform(n) for axis, n, m in zip(old, at.shape, shape(old), strict=True))


def tile(at: Call, self: Value, **_: Any) -> Value:
    """Repeat whole axes: (r c), uniform along r."""
    new = len(at.shape) - len(self)
    old = (*((((),),) * new), *self)
    return tuple(multiply(at.uniform(n // m), axis) for axis, n, m in zip(old, at.shape, shape(old), strict=True))


def repeat_interleave(at: Call, self: Value, repeats: Any = None, dim: int | None = None, **_: Any) -> Any:
    """Repeat each entry: (c r), uniform along r; no rule for a tensor of counts."""
    if not isinstance(repeats, int):
        return NotImplemented
    if dim is None:
        return (multiply(*self, at.uniform(repeats)),)
    return tuple(multiply(a, at.uniform(repeats)) if i == dim % len(self) else a for i, a in enumerate(self))


RULES: Rules = {
    **rows(reshape, "view reshape _unsafe_view view_as reshape_as flatten unflatten squeeze unsqueeze ravel"),
    **rows(permute, "permute"),
    **rows(transpose, "transpose swapaxes swapdims"),
    **rows(reverse, "t numpy_T"),
    **rows(adjoint, "mT adjoint"),
    **rows(movedim, "movedim moveaxis"),
    **rows(expand, "expand expand_as broadcast_to"),
    **rows(tile, "repeat tile"),
    **rows(repeat_interleave, "repeat_interleave"),
}
