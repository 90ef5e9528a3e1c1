"""Linear maps of units as an action on weights, for proofs.

    W_q -> A W_q,   b_q -> A b_q,   W_k -> A^-T W_k,        (A q) . (A^-T k) = q . k

A matrix acts on the places with exponent 1, its inverse transpose on those with exponent -1; one
matrix for each head where the units are per head. The specification declares such maps, but they
are no part of a `Rescaling`: matrices do not commute with what acts on single units.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.spec import PermutationSpec, Place, UnitSymmetry


def random_matrices(
    spec: PermutationSpec, unit: UnitSymmetry, generator: torch.Generator
) -> Tensor:
    """Well-conditioned random matrices, (size, size), or (size of per, size, size) for a family."""
    shape = _shape_of_units(spec, unit)
    noise = torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64)
    rotation, triangle = torch.linalg.qr(noise)
    stretch = 0.5 + 1.5 * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return rotation @ (torch.diag_embed(stretch) + 0.1 * triangle.triu(1))


def _shape_of_units(spec: PermutationSpec, unit: UnitSymmetry) -> tuple[int, ...]:
    group = next(group for group in spec.declared if group.name == unit.group)
    return (group.size,) if group.per is None else (spec.groups[group.per], group.size)


def act_linearly(
    spec: PermutationSpec, unit: UnitSymmetry, matrices: Tensor, *, params: Mapping[str, Tensor]
) -> Params:
    """Act on weights without batch axes."""
    dual = torch.linalg.inv(matrices).mT
    moved = dict(params)
    for place in unit.places:
        matrix = matrices if place.exponent > 0 else dual
        moved[place.tensor] = _at_place(moved[place.tensor], matrix, spec=spec, place=place)
    return moved


def _at_place(tensor: Tensor, matrix: Tensor, *, spec: PermutationSpec, place: Place) -> Tensor:
    """Of a concatenated axis, the other terms stay as they are."""
    axis = spec.axes[place.tensor][place.axis]
    sizes = [spec.segment_size(segment) for segment in axis]
    parts = list(tensor.movedim(place.axis, 0).split(sizes))
    parts[place.segment] = _on_term(parts[place.segment], matrix, spec=spec, place=place)
    return torch.cat(parts).movedim(0, place.axis)


def _per_head(units_last: Tensor, matrices: Tensor, heads: int) -> Tensor:
    """A matrix of its own for each index of the axis ``heads``."""
    heads_first = units_last.movedim(heads, 0)
    mapped = torch.einsum("h...j,hij->h...i", heads_first, matrices)
    return mapped.movedim(0, heads)


def _on_term(part: Tensor, matrix: Tensor, *, spec: PermutationSpec, place: Place) -> Tensor:
    """The term lies on the first axis; it is unfolded into its factors and folded again."""
    term = spec.axes[place.tensor][place.axis][place.segment]
    factors = [spec.segment_size((atom,)) for atom in term]
    units_last = part.unflatten(0, factors).movedim(place.factor, -1)
    parent = next(group.per for group in spec.declared if group.name == term[place.factor])
    if parent is None:
        mapped = units_last @ matrix.mT.to(part)
    else:
        mapped = _per_head(units_last, matrix.to(part), term.index(parent))
    return mapped.movedim(-1, place.factor).reshape(part.shape)
