"""Classes that no data set has: those of a task warped, mirrored and laid over each other.

    x' = x o (A_c + w_c),     and for some classes  the farther of x' and y' from the background

A_c is an affine map and w_c a smooth displacement, drawn once for class c of a task and the same
for all its examples, so that a warped class is a class still. A generator that has only seen ten
digits learns those ten; one that has seen such classes answers better for a digit it has not seen,
as augmenting tasks does in Hsu et al. (2018), arXiv 1810.02334, and Rajendran et al. (2020), arXiv
2007.02933. A share of the tasks is left as it is.

The background is the median of a task's pixels, so that inverted images warp like others.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from wsl.generative.conditions.examples import Episodes, LabelledExamples, TaskSource


@dataclasses.dataclass(frozen=True, eq=False)
class VirtualClasses:
    """The tasks of ``source``, whose inputs are images, a ``share`` of them of virtual classes.

    mixed: the share of a virtual task's classes that are two laid over each other.
    bend: of the smooth displacement, in halves of an image. shear, stretch, shift: of the affine
    map; rotation and mirroring are free.
    """

    source: TaskSource
    _: dataclasses.KW_ONLY
    share: float = 0.5
    mixed: float = 0.3
    bend: float = 0.45
    shear: float = 0.5
    stretch: float = 0.25
    shift: float = 0.15

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Episodes:
        """``n`` fresh tasks, the same ones for the same state of ``generator``."""
        support, query = self.source.draw(n, generator=generator)
        images = torch.cat([support.inputs, query.inputs], 2)
        virtual = (torch.rand(n, generator=generator) < self.share).nonzero()[:, 0]
        if len(virtual):
            images[virtual] = self._virtual(images[virtual], generator)
        told, scored = images.split([support.shots, query.shots], 2)
        return Episodes(LabelledExamples(told), LabelledExamples(scored))

    def _virtual(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images (N, classes, shots, C, H, W) of other classes."""
        background = rearrange(images.flatten(1).median(1).values, "n -> n 1 1 1 1 1")
        ink = (images - background).flatten(0, 1)
        made = self._overlaid(self._warped(ink, generator), ink, generator)
        return made.view_as(images) + background

    def _overlaid(self, made: Tensor, ink: Tensor, generator: torch.Generator | None) -> Tensor:
        """Some of the classes with another one over them."""
        over = (torch.rand(len(ink), generator=generator) < self.mixed).nonzero()[:, 0]
        if len(over):
            other = ink[torch.randint(len(ink), (len(over),), generator=generator)]
            made[over] = _farther(made[over], self._warped(other, generator))
        return made

    def _warped(self, ink: Tensor, generator: torch.Generator | None) -> Tensor:
        """(M, shots, C, H, W), each of the M classes by a map of its own."""
        m, shots, channels, *size = ink.shape
        grid = F.affine_grid(self._maps(m, generator), [m, 1, *size], align_corners=False)
        grid = (grid + self._bends(m, size, generator)).to(ink)
        moved = F.grid_sample(ink.flatten(1, 2), grid, align_corners=False)
        return moved.unflatten(1, (shots, channels))

    def _bends(self, m: int, size: list[int], generator: torch.Generator | None) -> Tensor:
        """Smooth displacements (m, H, W, 2)."""
        bend = self.bend * _uniform((m, 2, 3, 3), generator)
        smooth = F.interpolate(bend, size=size, mode="bicubic", align_corners=True)
        return rearrange(smooth, "m two h w -> m h w two")

    def _maps(self, m: int, generator: torch.Generator | None) -> Tensor:
        """Affine maps (m, 2, 3): shear and stretch, perhaps mirrored, then any rotation."""
        angle = math.pi * _uniform((m,), generator)
        turn = _rotation(angle)
        stretch = 1 + self.stretch * _uniform((m, 2), generator)
        mirror = torch.where(_uniform((m,), generator) > 0, 1.0, -1.0)
        shape = torch.diag_embed(stretch * torch.stack([torch.ones(m), mirror], 1))
        shape[:, 0, 1] = self.shear * _uniform((m,), generator)
        return torch.cat([turn @ shape, self.shift * _uniform((m, 2, 1), generator)], 2)


def _farther(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(other.abs() > one.abs(), other, one)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1
