"""Batches of checkpoints in an order that a seed fixes.

    pass k of a shuffled loader = permutation(rows; seed, k)

Each pass yields each of its rows exactly once (but for a dropped incomplete batch). Whole batches
come straight from the mapped file, so worker processes bring nothing; for code that wants a
`torch.utils.data.DataLoader` see `Zoo.collate`. On the way to a GPU the rows are gathered into
pinned memory, two blocks in turn, and copied while the next are gathered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wsl.params import Params

Batch = tuple[Params, dict[str, Tensor]]
"""Weights (B, *shape) and numeric metadata (B,)."""


class RowSource(Protocol):
    """What a loader reads from."""

    device: torch.device

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Rows (n,) as one block (n, P)."""
        ...

    def read(
        self,
        rows: np.ndarray,
        *,
        out: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Batch:
        """Rows (n,) as one batch, by way of ``out`` to ``device``."""
        ...


@dataclasses.dataclass
class Loader:
    """An iterable over batches of ``rows`` with a length.

    ``passes`` counts the passes begun and may be set to resume.
    """

    source: RowSource
    rows: np.ndarray
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False
    passes: int = 0
    device: torch.device | None = None

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        order = self.rows
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.passes]).permutation(order)
        self.passes += 1
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        parts = (order[start : start + self.batch_size] for start in starts)
        target, device = self.device, self.source.device
        if target is not None and target.type == "cuda" and device.type == "cpu":
            return self._pinned(parts, target)
        return (self.source.read(part, device=target) for part in parts)

    def _pinned(self, parts: Iterator[np.ndarray], device: torch.device) -> Iterator[Batch]:
        """A block is written again only when its copy to the device is over."""
        like = self.source.gather(self.rows[:1])
        shape = (self.batch_size, like.shape[1])
        blocks = [torch.empty(shape, dtype=like.dtype, pin_memory=True) for _ in range(2)]
        copied = [torch.cuda.Event() for _ in blocks]
        for i, part in enumerate(parts):
            block, event = blocks[i % 2], copied[i % 2]
            event.synchronize()
            batch = self.source.read(part, out=block[: len(part)], device=device)
            event.record(torch.cuda.current_stream(device))
            yield batch
