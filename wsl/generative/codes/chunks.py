"""Long vectors of weights as tokens: chunks of one length that never cross a tensor.

    x (n, P)  <->  tokens (n, T, length), NaN where a tensor's last chunk is not full

A coder that is shared by all chunks has a size that does not grow with the network; what tells
chunks apart is their place. As in SANE, Schürholt et al. (2024), arXiv 2406.09997, and with NaN as
padding in RPG, Wang et al. (2025), arXiv 2501.11587. Each chunk is encoded by itself: how they go
together is left to the distribution of codes, which sees them all.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

PLACE = 16
"""Features of the place of a chunk."""


@dataclasses.dataclass(frozen=True)
class WeightChunks:
    """How vectors of tensors with these ``sizes`` are cut into chunks of ``length`` numbers."""

    sizes: tuple[int, ...]
    length: int

    def __post_init__(self) -> None:
        if self.length < 1 or not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"chunks: length {self.length} and sizes {self.sizes} must be above 0")

    @property
    def counts(self) -> list[int]:
        """WeightChunks of each tensor."""
        return [-(-size // self.length) for size in self.sizes]

    @property
    def positions(self) -> Tensor:
        """Tensor and number within the tensor of each chunk, int64 (T, 2)."""
        return torch.tensor([(i, j) for i, n in enumerate(self.counts) for j in range(n)])

    def split(self, x: Tensor) -> Tensor:
        """Vectors (n, P) to tokens (n, T, length)."""
        parts = x.split(self.sizes, -1)
        padded = [
            nn.functional.pad(part, (0, n * self.length - part.shape[-1]), value=math.nan)
            for part, n in zip(parts, self.counts, strict=True)
        ]
        return torch.cat(padded, -1).view(len(x), -1, self.length)

    def join(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T, length) to vectors (n, P); what stands on padding is dropped."""
        parts = tokens.split(self.counts, 1)
        cut = [p.flatten(1)[:, :size] for p, size in zip(parts, self.sizes, strict=True)]
        return torch.cat(cut, 1)


class ChunkEncoder(nn.Module):
    """Vectors (n, P) to ``width`` numbers for each chunk, (n, T width), by one shared ``body``."""

    def __init__(self, chunks: WeightChunks, body: nn.Module) -> None:
        super().__init__()
        self.chunks, self.body = chunks, body
        self.place = nn.Parameter(torch.randn(sum(chunks.counts), PLACE) * PLACE**-0.5)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        tokens = self.chunks.split(x).nan_to_num(0.0)
        place = self.place.expand(len(x), *self.place.shape)
        return self.body(torch.cat([tokens, place], -1)).flatten(1)


class ChunkDecoder(nn.Module):
    """Codes (n, T width) to vectors (n, P), by one shared ``body``."""

    def __init__(self, chunks: WeightChunks, body: nn.Module) -> None:
        super().__init__()
        self.chunks, self.body = chunks, body
        self.place = nn.Parameter(torch.randn(sum(chunks.counts), PLACE) * PLACE**-0.5)

    def forward(self, z: Tensor) -> Tensor:  # noqa: D102
        place = self.place.expand(len(z), *self.place.shape)
        return self.chunks.join(self.body(torch.cat([z.view(*place.shape[:2], -1), place], -1)))


def width_of(chunks: WeightChunks, latent: int, *, features: int) -> int:
    """Numbers for each chunk; raises ValueError unless ``latent`` shares out and sizes add up."""
    count = sum(chunks.counts)
    if sum(chunks.sizes) != features or latent % count:
        raise ValueError(
            f"chunks: sizes add up to {sum(chunks.sizes)} of {features} weights, and "
            f"latent={latent} must be a multiple of the {count} chunks"
        )
    return latent // count
