"""Weights cut into pieces on which groups act axis by axis, so that one matching algorithm serves
every annotation.

A tensor whose axes are concatenations is cut at the seams; in a piece every axis is one product,
which is unfolded into an axis per atom. ``qkv.weight: (head dk)+(head dv) d`` becomes two pieces,
(head, dk, d) and (head, dv, d). On a piece

    <W_a, g.W_b> = sum_{a, j, i} W_a[a, j, i] W_b[pi(a), sigma_a(j), rho(i)]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from wsl.symmetry.spec.grammar import Atom, Axes, Segment
from wsl.symmetry.spec.specification import PermutationSpec


class Piece(NamedTuple):
    """A window of one tensor, seen with one axis per atom; ``parents`` gives the axis of the group
    a family is per.
    """

    tensor: str
    window: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    atoms: tuple[Atom, ...]
    parents: tuple[int | None, ...]

    def cut(self, params: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The piece of ``params``, in dtype and on the device of ``like``."""
        tensor = params[self.tensor]
        for axis, (start, length) in enumerate(self.window):
            tensor = tensor.narrow(axis, start, length)
        return tensor.reshape(self.shape).to(like)


def pieces(spec: PermutationSpec, names: tuple[str, ...]) -> tuple[Piece, ...]:
    """The pieces of the tensors ``names``, in their order."""
    per = {group.name: group.per for group in spec.declared}
    return tuple(piece for name in names for piece in _pieces(spec, name, spec.axes[name], per))


def _pieces(
    spec: PermutationSpec, name: str, axes: Axes, per: Mapping[str, str | None]
) -> Iterator[Piece]:
    starts = [
        list(itertools.accumulate((spec.segment_size(segment) for segment in axis), initial=0))
        for axis in axes
    ]
    for choice in itertools.product(*(range(len(axis)) for axis in axes)):
        segments = [axis[k] for axis, k in zip(axes, choice, strict=True)]
        window = tuple(
            (ends[k], ends[k + 1] - ends[k]) for ends, k in zip(starts, choice, strict=True)
        )
        atoms = tuple(itertools.chain(*segments))
        shape = tuple(spec.segment_size((atom,)) for atom in atoms)
        yield Piece(name, window, shape, atoms, tuple(_parents(segments, per)))


def _parents(segments: list[Segment], per: Mapping[str, str | None]) -> Iterator[int | None]:
    start = 0
    for segment in segments:
        for atom in segment:
            parent = per[atom] if isinstance(atom, str) else None
            yield None if parent is None else start + segment.index(parent)
        start += len(segment)
