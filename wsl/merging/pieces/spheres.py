"""Points on a sphere: interpolation along great circles, and the tangent at a point.

    slerp_t(u, v) = (sin((1 - t) omega) u + sin(t omega) v) / sin omega,     cos omega = <u, v>
    log_m(x)      = omega (x - <x, m> m) / sin omega

Shoemake (1985). The angle is between directions, the interpolation is of the vectors as they are,
which is what the field does: lengths go linearly where directions agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARALLEL = 0.9995
"""Cosine from which two vectors are taken as parallel, and interpolated linearly."""


def between(a: Tensor, b: Tensor, t: float, *, dim: int | None = None) -> Tensor:
    """The point at ``t`` from ``a`` to ``b``, of one shape, as one vector or along ``dim``.

    Straight where the cosine of the two exceeds 0.9995 in modulus, or one of them is zero.
    """
    dims = list(range(a.dim())) if dim is None else dim
    lengths = _norm(a, dims) * _norm(b, dims)
    cosine = _sum(a * b, dims) / torch.where(lengths == 0, 1, lengths)
    straight = (cosine.abs() > PARALLEL) | (lengths == 0)
    omega = torch.where(straight, 1.0, cosine.clamp(-1, 1).acos())
    curved = ((1 - t) * omega).sin() * a + (t * omega).sin() * b
    return torch.where(straight, torch.lerp(a, b, t), curved / omega.sin())


def tangent(point: Tensor, vectors: Tensor) -> Tensor:
    """Unit vectors (T, P) as seen from a unit vector (P,): the logarithm map of the sphere."""
    cosine = (vectors @ point).clamp(-1, 1)
    across = vectors - cosine[:, None] * point
    length = across.norm(dim=1)
    angle = torch.atan2(length, cosine)  # acos loses half of the digits near 0
    return across * (angle / torch.where(length == 0, 1, length))[:, None]


def _norm(x: Tensor, dims: list[int] | int) -> Tensor:
    return _sum(x * x, dims).sqrt()


def _sum(x: Tensor, dims: list[int] | int) -> Tensor:
    return x if dims == [] else x.sum(dims, keepdim=True)
