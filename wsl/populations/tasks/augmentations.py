"""Augmentation of images whose draws are a function of a key per image, so that company changes
nothing.

    x'(p) = x(R_a (p - s)) + sigma n,      a ~ U(-rotation, rotation),   s ~ U{-shift..shift}^2
        pixels,   n ~ N(0, 1)

Pixels that come from outside are zero. Rotation is bilinear, about the centre; a shift alone is
exact.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.base import counter
from wsl.populations.describe import build


@dataclasses.dataclass(frozen=True)
class Augment:
    """``shift`` in pixels, ``rotation`` in degrees, ``noise`` the standard deviation added to each
    pixel; zero leaves out.
    """

    shift: int = 0
    rotation: float = 0.0
    noise: float = 0.0

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """``images`` (N, B, C, H, W), ``keys`` (N, B) int64; returns new images of the same
        shape.
        """
        flat, keys = images.flatten(0, 1), keys.flatten().to(images.device)
        if self.shift:
            flat = self._shifted(flat, keys)
        if self.rotation:
            flat = self._rotated(flat, keys)
        if self.noise:
            place = torch.arange(flat[0].numel(), device=flat.device)
            flat = flat + self.noise * counter.normal(keys[:, None], 3, place).to(flat).view_as(
                flat
            )
        return flat.view_as(images)

    def _shifted(self, x: Tensor, keys: Tensor) -> Tensor:
        height, width, s = *x.shape[2:], self.shift
        down, right = ((counter.uniform(keys, stream) * (2 * s + 1)).long() for stream in (0, 1))
        rows = (down[:, None] + torch.arange(height, device=x.device))[:, None, :, None]
        columns = (right[:, None] + torch.arange(width, device=x.device))[:, None, None, :]
        item, channel = (torch.arange(n, device=x.device) for n in x.shape[:2])
        return F.pad(x, (s, s, s, s))[
            item[:, None, None, None], channel[:, None, None], rows, columns
        ]

    def _rotated(self, x: Tensor, keys: Tensor) -> Tensor:
        angle = (2 * counter.uniform(keys, 2) - 1).mul(math.radians(self.rotation)).to(x)
        ratio, zero = x.shape[2] / x.shape[3], torch.zeros_like(angle)
        turn = torch.stack(
            [angle.cos(), -angle.sin() * ratio, zero, angle.sin() / ratio, angle.cos(), zero], 1
        ).view(-1, 2, 3)
        return F.grid_sample(
            x, F.affine_grid(turn, list(x.shape), align_corners=False), align_corners=False
        )


def build_augmentation(description: Mapping[str, Any]) -> Augment:
    """An `Augment` from its description; raises `ZooError` for any other target."""
    return build(description, allowed={"wsl.zoo.Augment": Augment}, what="augment")
