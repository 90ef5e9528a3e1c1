"""Batches of checkpoints in an order that a seed fixes: pass k of a shuffled loader is permutation(rows; seed, k).

Each pass yields each of its rows exactly once (but for a dropped incomplete batch). Whole batches come straight from the
mapped file, so worker processes bring nothing; for code that wants a `torch.utils.data.DataLoader` see `Zoo.collate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from wsl.params import Params

Batch = tuple[Params, dict[str, Tensor]]
"""Weights (B, *shape) and numeric metadata (B,)."""


class Batches(Protocol):
    """What a loader reads from."""

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The rows ``indices`` as one batch."""
        ...


@dataclasses.dataclass
class Loader:
    """An iterable over batches of ``rows`` with a length; ``passes`` counts the passes begun and may be set to resume."""

    source: Batches
    rows: np.ndarray
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False
    passes: int = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, self.passes]).permutation(self.rows) if self.shuffle else self.rows
        self.passes += 1
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return (self.source.__getitems__(order[start : start + self.batch_size]) for start in starts)
