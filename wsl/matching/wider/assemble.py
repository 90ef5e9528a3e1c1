"""Weights of other sizes, put together piece by piece from weights of the same annotations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
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
    for name, axes in old.annotations:
        if not like[name].is_floating_point() and old.shapes[name] == new.shapes[name]:
            found[name] = like[name].clone()
            continue
        found[name] = torch.zeros(
            new.shapes[name], dtype=like[name].dtype, device=like[name].device
        )
        choices = itertools.product(*(windows(old, axis) for axis in axes))
        for choice, piece in zip(choices, pieces(new, (name,)), strict=True):
            part = value(Piece.of(name, choice), written_atoms(choice, axis_written(name, written)))
            window = tuple(slice(start, start + length) for start, length in piece.window)
            lengths = [length for _, length in piece.window]
            found[name][window] = part.reshape(lengths).to(found[name])
    return found


def written_atoms(choice: Sequence[Window], axis: int) -> range:
    """The axes of a piece that lie on one axis of its tensor."""
    first = sum(len(window.atoms) for window in choice[:axis])
    return range(first, first + len(choice[axis].atoms) if choice else first)
