"""The matrix of one unit symmetry that mixes units: its kinds, and how it acts at one place.

    linear, orthogonal   x -> M x         M (n, n), or (heads, n, n)
    rotation             z -> c z         z_f = x_j + i x_j', c (n / 2,) or (heads, n / 2) complex

with j, j' the pair of positions of frequency f: (f, f + n / 2) in the form half, (2f, 2f + 1) in
the form interleaved. Products are taken in at least float32. Haar measure of random orthogonal
matrices: Mezzadri (2007), arXiv math-ph/0609050.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.spec import PermutationSpec, Place, SpecError, UnitSymmetry, window_of, windows

_ROUNDING = 1e-6
"""How far from orthogonal an orthogonal matrix may be, in any entry."""


def heads_of(spec: PermutationSpec, unit: UnitSymmetry) -> str | None:
    """The group whose every index has a matrix of its own, or None if there is one for all."""
    if unit.kind == "rotation":
        return unit.group or None
    return next(group.per for group in spec.declared if group.name == unit.group)


def shape_of(spec: PermutationSpec, unit: UnitSymmetry) -> tuple[int, ...]:
    """(n, n) or (n / 2,), behind the number of heads where each has a matrix of its own."""
    place, heads = unit.places[0], heads_of(spec, unit)
    n = window_of(spec, place).sizes[place.factor]
    lead = () if heads is None else (spec.groups[heads],)
    return (*lead, n // 2) if unit.kind == "rotation" else (*lead, n, n)


def identity_of(spec: PermutationSpec, unit: UnitSymmetry) -> Tensor:
    """The matrices that change nothing."""
    shape = shape_of(spec, unit)
    if unit.kind == "rotation":
        return torch.ones(shape, dtype=torch.complex128)
    return torch.eye(shape[-1], dtype=torch.float64).repeat(*shape[:-2], 1, 1)


def random_of(
    spec: PermutationSpec, unit: UnitSymmetry, generator: torch.Generator | None
) -> Tensor:
    """Well-conditioned matrices, uniform orthogonal ones, or numbers c with 1/2 < |c| < 2."""
    shape = shape_of(spec, unit)
    if unit.kind == "rotation":
        modulus = 4 ** torch.rand(shape, generator=generator, dtype=torch.float64) / 2
        angle = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
        return torch.polar(modulus, angle)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if unit.kind == "orthogonal":
        return _keeping_ones(noise) if unit.form else _haar(noise)
    stretch = 0.5 + 1.5 * torch.rand(shape[:-1], generator=generator, dtype=torch.float64)
    triangle = torch.linalg.qr(noise)[1]
    return _haar(noise) @ (torch.diag_embed(stretch) + 0.1 * triangle.triu(1))


def _haar(noise: Tensor) -> Tensor:
    rotation, triangle = torch.linalg.qr(noise)
    return rotation * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]


def _keeping_ones(noise: Tensor) -> Tensor:
    """Orthogonal matrices (..., n, n) that leave the vector of ones where it is."""
    basis = centred_basis(noise.shape[-1])
    return basis @ _haar(noise[..., 1:, 1:]) @ basis.T + 1 / noise.shape[-1]


def centred_basis(n: int) -> Tensor:
    """An orthonormal basis (n, n - 1), float64, of the vectors whose entries sum to 0."""
    ones = torch.ones(n, 1, dtype=torch.float64)
    return torch.linalg.qr(torch.cat([ones, torch.eye(n, dtype=torch.float64)[:, 1:]], 1))[0][:, 1:]


def dual(unit: UnitSymmetry, value: Tensor) -> Tensor:
    """What acts where the exponent is -1: the inverse transpose."""
    if unit.kind == "rotation":
        return 1 / value.conj()
    return value if unit.kind == "orthogonal" else torch.linalg.inv(value).mT


def inverse(unit: UnitSymmetry, value: Tensor) -> Tensor:
    """The inverse element."""
    if unit.kind == "rotation":
        return 1 / value
    return value.mT if unit.kind == "orthogonal" else torch.linalg.inv(value)


def carried(
    spec: PermutationSpec, unit: UnitSymmetry, value: Tensor, *, permutation: Permutation
) -> Tensor:
    """What acts on permuted weights like ``value`` on those before: P M P^T."""
    heads = heads_of(spec, unit)
    value = value if heads is None else value[permutation.indices[heads].to(value.device)]
    if unit.kind == "rotation":
        return value
    index = permutation.indices[unit.group].to(value.device)
    return value.take_along_dim(index[..., :, None], -2).take_along_dim(index[..., None, :], -1)


def check_value(spec: PermutationSpec, unit: UnitSymmetry, value: Tensor) -> None:
    """Raise `SpecError` unless it is an element of the unit's kind."""
    shape = shape_of(spec, unit)
    dtype = torch.complex128 if unit.kind == "rotation" else torch.float64
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise SpecError(
            f"{unit.head}: needs {dtype} values of shape {shape}, got {value.dtype} "
            f"{tuple(value.shape)}"
        )
    if not bool(value.isfinite().all()):
        raise SpecError(f"{unit.head}: values are NaN or infinite")
    if unit.kind == "rotation" and bool((value == 0).any()):
        raise SpecError(f"{unit.head}: the numbers of a rotation must not be 0")
    if unit.kind == "linear" and bool(torch.linalg.inv_ex(value)[1].any()):
        raise SpecError(f"{unit.head}: a matrix is singular")
    if unit.kind == "orthogonal":
        _check_orthogonal(unit, value)


def _check_orthogonal(unit: UnitSymmetry, value: Tensor) -> None:
    one = torch.eye(value.shape[-1]).to(value)
    if not bool(((value @ value.mT - one).abs() < _ROUNDING).all()):
        raise SpecError(f"{unit.head}: a matrix is not orthogonal")
    if unit.form and not bool(((value.sum(-1) - 1).abs() < _ROUNDING).all()):
        raise SpecError(f"{unit.head}: a matrix moves the vector of ones; centred ones keep it")


def act_at(
    spec: PermutationSpec, unit: UnitSymmetry, value: Tensor, *, place: Place
) -> Callable[[Tensor, int], Tensor]:
    """The action of an element at one place, as a function of the tensor and its batch axes."""
    acting = value if place.exponent > 0 else dual(unit, value)
    return at_place(spec, unit, lambda x: applied(unit, acting, x), place=place)


def at_place(
    spec: PermutationSpec, unit: UnitSymmetry, change: Callable[[Tensor], Tensor], *, place: Place
) -> Callable[[Tensor, int], Tensor]:
    """``change`` the units at a place, as a function of the tensor and its batch axes.

    It gets them as (..., n), or (..., heads, n) where heads have matrices of their own. Other terms
    of a concatenated axis stay as they are.
    """
    cut = windows(spec, spec.axes[place.tensor][place.axis])
    window, heads = cut[place.segment], heads_of(spec, unit)
    inside = [place.factor] if heads is None else [window.atoms.index(heads), place.factor]

    def act(tensor: Tensor, lead: int) -> Tensor:
        axis = place.axis + lead
        parts = list(tensor.split([each.length for each in cut], axis))
        term, last = parts[place.segment], list(range(-len(inside), 0))
        unfolded = term.unflatten(axis, window.sizes)
        moved = change(unfolded.movedim([axis + k for k in inside], last))
        parts[place.segment] = moved.movedim(last, [axis + k for k in inside]).reshape(term.shape)
        return torch.cat(parts, axis) if len(parts) > 1 else parts[0]

    return act


def applied(unit: UnitSymmetry, value: Tensor, x: Tensor) -> Tensor:
    """Matrices (n, n) or (heads, n, n) to units (..., n) or (..., heads, n); rotations likewise."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if unit.kind == "rotation":
        real, imaginary = rotary_pairs(unit, x.to(dtype))
        a, b = value.real.to(real), value.imag.to(real)
        return joined(unit, a * real - b * imaginary, b * real + a * imaginary).to(x)
    matrix = value.to(x.device, dtype)
    if matrix.dim() == 2:
        return (x.to(dtype) @ matrix.mT).to(x)
    return torch.einsum("...hj,hij->...hi", x.to(dtype), matrix).to(x)


def rotary_pairs(unit: UnitSymmetry, x: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (..., n) as real and imaginary parts, (..., n / 2) each."""
    if unit.form == "interleaved":
        return x[..., ::2], x[..., 1::2]
    real, imaginary = x.chunk(2, -1)
    return real, imaginary


def joined(unit: UnitSymmetry, real: Tensor, imaginary: Tensor) -> Tensor:
    """The inverse of `rotary_pairs`."""
    if unit.form == "interleaved":
        return torch.stack([real, imaginary], -1).flatten(-2)
    return torch.cat([real, imaginary], -1)
