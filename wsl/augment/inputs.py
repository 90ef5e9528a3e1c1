"""Maps of the input of an implicit representation f: R^d -> R^c, done to its first layer W x + b.

    rotate      f(R x)          W <- W R,  R a rotation of the plane by an angle in +-degrees
    stretch     f(c x)          W <- c W,  c ~ U(low, high), one factor for all coordinates
    translate   f(x + t)        b <- b + W t,  t ~ U(-most, most)^d

Shamsian et al. (2024), arXiv 2402.04081; their translation by deeper layers is exact only for the
first, which is done here. Exact for any activation, since only the argument changes. The label of
an image may not survive a large rotation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.augment.compose import per_row, rows
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecError


def first_layer(spec: PermutationSpec) -> tuple[str, str]:
    """Names of the first matrix (units, fixed coordinates) and of the bias of its units.

    Raises `SpecError` if there is none.
    """
    for name, axes in spec.annotations:
        if len(axes) == 2 and not _is_fixed(axes[0]) and _is_fixed(axes[1]):
            bias = next((other for other, its in spec.annotations if its == axes[:1]), None)
            if bias is not None:
                return name, bias
    raise SpecError(
        "no first layer: no matrix has units on axis 0, fixed coordinates on axis 1 and a bias; "
        "name its tensors"
    )


@dataclasses.dataclass(frozen=True)
class Rotate:
    """Rotate the plane by an angle drawn from +-``degrees``.

    The first layer must read two coordinates.
    """

    weight: str
    degrees: float = 30.0

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Representations of rotated images."""
        weight = _tensor(params, self.weight)
        _check_plane(self.weight, weight)
        angle = (2 * torch.rand(rows(params), generator=generator) - 1) * math.radians(self.degrees)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
        return {**params, self.weight: weight @ turn.to(weight, non_blocking=True)}


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Multiply all coordinates by one factor between ``low`` and ``high``."""

    weight: str
    low: float = 0.8
    high: float = 1.2

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Representations of images zoomed out (factor above one) or in."""
        weight = _tensor(params, self.weight)
        factor = self.low + (self.high - self.low) * torch.rand(rows(params), generator=generator)
        return {**params, self.weight: weight * per_row(factor, weight)}


@dataclasses.dataclass(frozen=True)
class Translate:
    """Move the coordinates by up to ``most`` in each direction."""

    weight: str
    bias: str
    most: float = 0.25

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """Representations of moved images."""
        weight, bias = _tensor(params, self.weight), _tensor(params, self.bias)
        shift = (
            2 * torch.rand(rows(params), weight.shape[-1], generator=generator) - 1
        ) * self.most
        return {
            **params,
            self.bias: bias
            + torch.einsum("bud,bd->bu", weight, shift.to(weight, non_blocking=True)),
        }


def _check_plane(name: str, weight: Tensor) -> None:
    if weight.dim() != 3 or weight.shape[2] != 2:
        raise SpecError(
            f"{name}: rotation needs shape (batch, units, 2), got {tuple(weight.shape)}"
        )


def _tensor(params: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in params:
        raise SpecError(f"no tensor '{name}' in the weights; they have {', '.join(params)}")
    return params[name]


def _is_fixed(axis: tuple[tuple[str | int, ...], ...]) -> bool:
    return all(isinstance(atom, int) for segment in axis for atom in segment)
