"""Augmentation of images whose draws are a function of one key per image.

    x'(p) = x(R_a (p - s)) + sigma n
    a ~ U(-rotation, rotation)      s ~ U{-shift..shift}^2 pixels      n ~ N(0, 1)

So an image is changed alike in any company. Pixels that come from outside are zero. Rotation is
bilinear, about the centre; a shift alone is exact.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from wsl.base import counter
from wsl.populations.describe import build

_DOWN, _RIGHT, _ANGLE, _NOISE = range(4)
"""Streams of the randomness of one key."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Shift, turn and disturb images; zero leaves a change out.

    ``shift`` is in pixels, ``rotation`` in degrees, ``noise`` the standard deviation of what is
    added to each pixel.
    """

    shift: int = 0
    rotation: float = 0.0
    noise: float = 0.0

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """New images for ``images`` (N, B, C, H, W) and ``keys`` (N, B) int64."""
        members = len(images)
        images = rearrange(images, "n b c h w -> (n b) c h w")
        keys = rearrange(keys, "n b -> (n b)").to(images.device)
        if self.shift:
            images = self._shifted(images, keys)
        if self.rotation:
            images = self._rotated(images, keys)
        if self.noise:
            pixel = torch.arange(images[0].numel(), device=images.device)
            drawn = counter.normal(keys[:, None], _NOISE, pixel).to(images)
            images = images + self.noise * drawn.view_as(images)
        return rearrange(images, "(n b) c h w -> n b c h w", n=members)

    def _shifted(self, x: Tensor, keys: Tensor) -> Tensor:
        """A window of the padded image, at a place drawn for each."""
        drawn = [
            (counter.uniform(keys, stream) * (2 * self.shift + 1)).long()
            for stream in (_DOWN, _RIGHT)
        ]
        item, channel, row, column = (torch.arange(n, device=x.device) for n in x.shape)
        rows = rearrange(drawn[0][:, None] + row, "i h -> i 1 h 1")
        columns = rearrange(drawn[1][:, None] + column, "i w -> i 1 1 w")
        item, channel = rearrange(item, "i -> i 1 1 1"), rearrange(channel, "c -> c 1 1")
        return F.pad(x, [self.shift] * 4)[item, channel, rows, columns]

    def _rotated(self, x: Tensor, keys: Tensor) -> Tensor:
        angle = (2 * counter.uniform(keys, _ANGLE) - 1).mul(math.radians(self.rotation)).to(x)
        # affine_grid has each side from -1 to 1, so that a turn of an oblong image is sheared
        ratio, zero = x.shape[2] / x.shape[3], torch.zeros_like(angle)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], 1)
        turn = rearrange(turn, "i (a b) -> i a b", a=2)
        grid = F.affine_grid(turn, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


def build_augmentation(description: Mapping[str, Any]) -> Augment:
    """An `Augment` from its description; raises `ZooError` for any other target."""
    return build(description, allowed={"wsl.zoo.Augment": Augment}, what="augment")
