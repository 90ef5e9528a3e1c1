"""Weights of other sizes, put together piece by piece from weights of the same annotations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from wsl.matching.wider.sides import axis_written
from wsl.params import Params
from wsl.symmetry import PermutationSpec, Piece, Window, pieces, windows

Value = Callable[[Piece, range], Tensor]
"""The new piece, from the old one and those of its axes that its tensor is written along."""


def assembled(
    specs: tuple[PermutationSpec, PermutationSpec],
    like: Mapping[str, Tensor],
    value: Value,
    *,
    written: Mapping[str, int] | None,
) -> Params:
    """Tensors of the second specification, in the types and places of ``like``.

    Integers on which no group acts are those of ``like``.
    """
    old, new = specs
    found: Params = {}
    for name in old.axes:
        shape = new.shapes[name]
        if not like[name].is_floating_point() and old.shapes[name] == shape:
            found[name] = like[name].clone()
            continue
        found[name] = like[name].new_zeros(shape)
        for window, part in _parts(specs, name, value, axis=axis_written(name, written)):
            found[name][window] = part.to(found[name])
    return found


def _parts(
    specs: tuple[PermutationSpec, PermutationSpec], name: str, value: Value, *, axis: int
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """The new pieces of a tensor that is written along ``axis``, and where they lie in it."""
    old, new = specs
    choices = itertools.product(*(windows(old, each) for each in old.axes[name]))
    for choice, piece in zip(choices, pieces(new, (name,)), strict=True):
        part = value(Piece.of(name, choice), written_atoms(choice, axis))
        window = tuple(slice(start, start + length) for start, length in piece.window)
        yield window, part.reshape([length for _, length in piece.window])


def written_atoms(choice: Sequence[Window], axis: int) -> range:
    """The axes of a piece that lie on one axis of its tensor."""
    first = sum(len(window.atoms) for window in choice[:axis])
    return range(first, first + len(choice[axis].atoms) if choice else first)
