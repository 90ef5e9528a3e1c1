"""The linear gauge as an action, for proofs: a matrix on the places with e = 1, its inverse
transpose on those with e = -1.

W_q -> A W_q,  b_q -> A b_q,  W_k -> A^-T W_k:        (A q) . (A^-T k) = q . k           one A for
    each head of a family
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
    """Well-conditioned random matrices, shape (size, size), or (size of per, size, size) for a
    family.
    """
    group = next(group for group in spec.declared if group.name == unit.group)
    shape = () if group.per is None else (spec.groups[group.per],)
    noise = torch.randn(*shape, group.size, group.size, generator=generator, dtype=torch.float64)
    rotation, triangle = torch.linalg.qr(noise)
    stretch = 0.5 + 1.5 * torch.rand(*shape, group.size, generator=generator, dtype=torch.float64)
    return rotation @ (torch.diag_embed(stretch) + 0.1 * triangle.triu(1))


def gauge(
    spec: PermutationSpec, unit: UnitSymmetry, matrices: Tensor, params: Mapping[str, Tensor]
) -> Params:
    """Act on weights without batch axes."""
    dual = torch.linalg.inv(matrices).mT
    moved = dict(params)
    for place in unit.places:
        moved[place.tensor] = _apply(
            spec, place, matrices if place.exponent > 0 else dual, moved[place.tensor]
        )
    return moved


def _apply(spec: PermutationSpec, place: Place, matrix: Tensor, tensor: Tensor) -> Tensor:
    axis = spec.axes[place.tensor][place.axis]
    parts = list(
        tensor.movedim(place.axis, 0).split([spec.segment_size(segment) for segment in axis])
    )
    segment, part = axis[place.segment], parts[place.segment]
    parent = next(group.per for group in spec.declared if group.name == segment[place.factor])
    whole = part.unflatten(0, [spec.segment_size((atom,)) for atom in segment]).movedim(
        place.factor, -1
    )
    if parent is None:
        whole = whole @ matrix.mT.to(tensor)
    else:
        outer = segment.index(parent)
        whole = torch.einsum(
            "h...j,hij->h...i", whole.movedim(outer, 0), matrix.to(tensor)
        ).movedim(0, outer)
    parts[place.segment] = whole.movedim(-1, place.factor).reshape(part.shape)
    return torch.cat(parts).movedim(0, place.axis)
