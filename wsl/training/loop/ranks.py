"""Several processes that train one network: which of them this is, and what they tell each other.

    rank r of W sees a slice of every batch;    g = 1/W sum_r g_r;    only rank 0 writes

All of them run the same program on the same data and draw the same random numbers, so little needs
to be said: gradients, statistics of heads, outputs of an evaluation, and what rank 0 read from a
file. A process that dies takes the others with it: their next collective fails, which
`Ranks.explained` turns into one sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process, as one of ``count``."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """As the process group says; alone where there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """This process's part of ``size`` things; parts are in order and differ by one at most."""
        each, left = divmod(size, self.count)
        start = self.rank * each + min(self.rank, left)
        return slice(start, start + each + (self.rank < left))

    def splits(self, size: int) -> bool:
        """Whether a batch of ``size`` is shared out; a smaller one is computed by every process."""
        return 1 < self.count <= size

    def gather(self, mine: list[T]) -> list[T]:
        """The lists of all processes, one after the other."""
        if self.count == 1:
            return mine
        found: list[Any] = [None] * self.count
        with self.explained():
            distributed.all_gather_object(found, mine)
        return [item for part in found for item in part]

    def same(self, value: T) -> T:
        """The value that the first process has."""
        if self.count == 1:
            return value
        box = [value]
        with self.explained():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the tensors of the first."""
        if self.count > 1:
            with self.explained():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one message."""
        if self.count == 1 or not tensors:
            return
        with self.explained():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            distributed.all_reduce(flat)
        parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the failure of a collective into `LostRank`."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _of_a_collective(error):
                raise
            raise LostRank(
                "another process of this training has ended; run the same command again, and it "
                "goes on from the last epoch that was saved"
            ) from error


ALONE = Ranks()
"""One process, as nearly always."""


class LostRank(ConnectionError):
    """Another process has ended before this one was done."""


def _of_a_collective(error: RuntimeError) -> bool:
    """Whether a process group raised it; gloo has no class of its own for that."""
    known = isinstance(error, distributed.DistError)
    return known or any(word in str(error) for word in ("gloo", "Connection", "NCCL"))
