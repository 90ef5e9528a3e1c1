"""Entries by their rank, exactly, from some passes over blocks: nothing is sorted as a whole.

    x_(r)  the r-th largest of n:   #{x > x_(r)} < r <= #{x >= x_(r)}

A sample says between which two of its values the rank lies; a pass counts what is above, keeps what
lies strictly between, and selects there. If the sample was wrong the limits are widened, so the
answer does not depend on it. After Floyd and Rivest (1975), who sample as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.merging.pieces.entries import Blocks

SAMPLE = 2**14
"""Entries of a member from which limits are guessed."""
_SIGMAS = (4.0, 32.0, float("inf"))
"""Standard errors of a rank in the sample by which the limits lie apart from it, one try each."""


def at_ranks(blocks: Blocks, ranks: Sequence[Sequence[int]]) -> Tensor:
    """For each member of (T, k) its entries of some ranks, 1 for the largest: (T, number of ranks).

    Every member is asked for as many. Entries that are no numbers have no rank.
    """
    first = next(iter(blocks))
    pairs = [(t, rank) for t, row in enumerate(ranks) for rank in row]
    if first.device.type != "cpu":
        whole = torch.cat([block.clone() for block in blocks], 1)
        found = [whole[t].kthvalue(blocks.size + 1 - rank).values for t, rank in pairs]
        return torch.stack(found).view(len(ranks), -1)
    return first.new_tensor(_selected(blocks, pairs, first=first)).view(len(ranks), -1)


def _selected(blocks: Blocks, pairs: Sequence[tuple[int, int]], *, first: Tensor) -> list[float]:
    """The entry of each member and rank; ``first`` is a block."""
    samples = _samples(blocks, first)
    if samples.shape[1] == blocks.size:
        return [float(samples[t, blocks.size - rank]) for t, rank in pairs]
    found: dict[int, float] = {}
    for sigmas in _SIGMAS:
        left = {
            i: _Bracket(samples[t], rank, blocks.size, sigmas=sigmas)
            for i, (t, rank) in enumerate(pairs)
            if i not in found
        }
        if not left:
            break
        for block in blocks:
            rows = block.numpy()
            for i, bracket in left.items():
                bracket.see(rows[pairs[i][0]])
        answers = {i: bracket.answer() for i, bracket in left.items()}
        found |= {i: answer for i, answer in answers.items() if answer is not None}
    return [found.get(i, np.nan) for i in range(len(pairs))]


def _samples(blocks: Blocks, first: Tensor) -> Any:
    """Sorted entries (T, S) of each member, which are all if there are few."""
    size = blocks.size
    # drawn, because strides would meet the same columns of a matrix again and again
    rng = np.random.default_rng(0)
    places = np.arange(size) if size <= SAMPLE else np.sort(rng.integers(0, size, SAMPLE))
    found = np.empty((len(first), len(places)), first.numpy().dtype)
    begin = at = 0
    for block in blocks:
        stop = np.searchsorted(places, begin + block.shape[1])
        found[:, at:stop] = block.numpy()[:, places[at:stop] - begin]
        begin, at = begin + block.shape[1], stop
    found.sort(1)
    return found


class _Bracket:
    """Limits around the ``rank``-th largest of ``size`` entries, and what lies where."""

    def __init__(self, sample: Any, rank: int, size: int, *, sigmas: float) -> None:
        share, count = (size - rank + 0.5) / size, len(sample)
        apart = min(sigmas * (share * (1 - share) * count) ** 0.5 + 2, count + 2.0)
        low, high = int(share * count - apart), int(share * count + apart) + 1
        self.low = sample[low] if low > 0 else -np.inf
        self.high = sample[high] if high < count else np.inf
        self.rank, self.above, self.reached, self.at_low = rank, 0, 0, 0
        self._between, self._count = np.empty(size // 16 + 1, sample.dtype), 0

    def see(self, row: Any) -> None:
        """Count one block."""
        below, over = row < self.high, row > self.low
        self.reached += np.count_nonzero(row >= self.high)
        self.above += np.count_nonzero(row > self.high)
        self.at_low += np.count_nonzero(row == self.low)
        below &= over
        self._keep(row[below])

    def _keep(self, values: Any) -> None:
        # one array, of which no more is touched than is used: many small ones would lie between
        # the blocks that come and go, so that none of their places could be used again
        stop = self._count + len(values)
        if stop > len(self._between):
            self._between = np.resize(self._between, 2 * stop)
        self._between[self._count : stop] = values
        self._count = stop

    def answer(self) -> float | None:
        """The entry, or None where it lies outside of the limits."""
        inside = self._between[: self._count]
        if self.rank <= self.above:
            return None
        if self.rank <= self.reached:
            return float(self.high)
        place = len(inside) - (self.rank - self.reached)
        if place >= 0:
            return float(np.partition(inside, place)[place])
        return float(self.low) if -place <= self.at_low else None
