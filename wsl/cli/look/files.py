"""Files of one architecture as one population, whatever their columns are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from wsl.zoo import Checkpoints


def same_kind(zoos: Sequence[Checkpoints]) -> list[list[int]]:
    """Numbers of the zoos of each architecture: equal tensors and specification."""
    kinds: list[list[int]] = []
    for i, zoo in enumerate(zoos):
        like = (k for k in kinds if _alike(zoos[k[0]], zoo))
        found = next(like, None)
        if found is None:
            kinds.append([i])
        else:
            found.append(i)
    return kinds


def _alike(a: Checkpoints, b: Checkpoints) -> bool:
    return a.header.layout == b.header.layout and a.spec == b.spec


class Weights(Checkpoints):
    """A zoo without its columns, so that files of one architecture are one sequence."""

    def __init__(self, base: Checkpoints) -> None:
        super().__init__(base.path, dataclasses.replace(base.header, columns={}))
        self.base = base

    def __len__(self) -> int:
        return len(self.base)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """See `Checkpoints.gather`."""
        return self.base.gather(rows, out)

    def verify(self) -> None:
        """As `Zoo.verify` of the whole."""
        self.base.verify()

    def _read_table(self) -> np.ndarray:
        table = self.base.table
        kept = np.empty(len(table), [(n, table.dtype[n]) for n in ("member", "epoch", "split")])
        for name in kept.dtype.names or ():
            kept[name] = table[name]
        return kept
