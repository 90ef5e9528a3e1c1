"""Points on a sphere: interpolation along great circles, and the tangent at a point.

    slerp_t(u, v) = (sin((1 - t) omega) u + sin(t omega) v) / sin omega,     cos omega = <u, v>
    log_m(x)      = omega (x - <x, m> m) / sin omega

Shoemake (1985). The angle is between directions, the interpolation is of the vectors as they are,
which is what the field does: lengths go linearly where directions agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsl.merging.pieces.tensors import summed

PARALLEL = 0.9995
"""Cosine from which two vectors are taken as parallel, and interpolated linearly."""


def arc(products: Tensor, t: float) -> Tensor:
    """How much of ``a`` and of ``b`` the point at ``t`` is, (2, ...), by (<a, a>, <a, b>, <b, b>).

    Straight where the cosine of the two exceeds 0.9995 in modulus, or one of them is zero.
    """
    aa, ab, bb = products
    lengths = (aa * bb).sqrt()
    cosine = ab / torch.where(lengths == 0, 1, lengths)
    straight = (cosine.abs() > PARALLEL) | (lengths == 0)
    omega = torch.where(straight, 1.0, cosine.clamp(-1, 1).acos())
    curved = torch.stack([((1 - t) * omega).sin(), (t * omega).sin()]) / omega.sin()
    return torch.where(straight, curved.new_tensor([1 - t, t]).view(2, *[1] * ab.dim()), curved)


def pair_products(a: Tensor, b: Tensor, dim: int | None = None) -> Tensor:
    """(<a, a>, <a, b>, <b, b>) of two tensors, in all or along an axis that stays; float64."""
    a, b = a.double(), b.double()
    found = [a * a, a * b, b * b]
    return torch.stack([x.sum() if dim is None else x.sum(dim, keepdim=True) for x in found])


def mixed(tensors: Tensor, name: str, factors: Tensor) -> Tensor:
    """(T, k), each times its factor, added; a rule of `Passes` in which factors are known."""
    del name
    return summed(tensors * factors.to(tensors).view(-1, *[1] * (tensors.dim() - 1)))


def between(a: Tensor, b: Tensor, t: float, *, dim: int | None = None) -> Tensor:
    """The point at ``t`` from ``a`` to ``b``, of one shape, as one vector or along ``dim``."""
    part = arc(pair_products(a, b, dim), t).to(a)
    return part[0] * a + part[1] * b


def tangent(point: Tensor, vectors: Tensor) -> Tensor:
    """Unit vectors (T, P) as seen from a unit vector (P,): the logarithm map of the sphere."""
    cosine = (vectors @ point).clamp(-1, 1)
    across = vectors - cosine[:, None] * point
    length = across.norm(dim=1)
    angle = torch.atan2(length, cosine)  # acos loses half of the digits near 0
    return across * (angle / torch.where(length == 0, 1, length))[:, None]
