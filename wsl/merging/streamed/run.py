"""Steps run in order, several at a time, in bounded memory.

    read part of all inputs -> solve -> hand on          one job; jobs overlap, results do not

Methods that treat every entry, or every row, for itself are given parts of a tensor of `PART`
entries in all, so that what is held does not depend on the tensor. Others are given whole tensors,
and one at a time where they are large. Bytes do not depend on the number of threads.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.merging.streamed.step import Step

PART = 2**20
"""Entries of all inputs together that a job has, if it can be cut."""
BUDGET = 128 << 20
"""Bytes of jobs in flight, unless one job alone needs more."""
THREADS = min(4, os.cpu_count() or 1)
_WIDE = 24
"""Bytes that a method holds for each entry of its inputs: some copies in float32 or float64."""
_STILL = 128 << 20
"""Bytes of the process besides jobs, above what it holds when it starts; measured."""


class Cost(NamedTuple):
    """Bytes to read and to write, and about as many held at the peak, besides Python and torch."""

    read: int
    written: int
    held: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    step: Step
    rows: slice | EllipsisType

    @property
    def held(self) -> int:
        count = math.prod(self.step.shape[1:])
        if isinstance(self.rows, slice):
            count *= self.rows.stop - self.rows.start
        else:
            count = math.prod(self.step.shape)
        sizes = sum(tensor.dtype.itemsize + _WIDE for tensor in self.step.inputs)
        return count * (sizes + self.step.kind.itemsize)

    def run(self) -> Tensor:
        inputs = self.step.read(self.rows)
        _check_finite(self.step, inputs)
        first = 0 if not isinstance(self.rows, slice) else self.rows.start
        return self.step.solve(inputs, first * math.prod(self.step.shape[1:]))


@torch.no_grad()
def results(steps: Iterable[Step], *, threads: int = THREADS) -> Iterator[Tensor]:
    """The results of ``steps`` in order, cut along their first axis where that can be done.

    Raises ValueError for NaN or infinity in an input, and what the methods raise.
    """
    jobs = (job for step in steps for job in _jobs(step))
    if threads <= 1:
        yield from (job.run() for job in jobs)
        return
    waiting: collections.deque[tuple[int, Future[Tensor]]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            while waiting and (
                len(waiting) > threads or sum(n for n, _ in waiting) + job.held > BUDGET
            ):
                yield waiting.popleft()[1].result()
            waiting.append((job.held, pool.submit(job.run)))
        while waiting:
            yield waiting.popleft()[1].result()


def cost(steps: Sequence[Step]) -> Cost:
    """What a merge reads, writes and holds."""
    sizes = [math.prod(step.shape) for step in steps]
    read = sum(n * t.dtype.itemsize for n, s in zip(sizes, steps, strict=True) for t in s.inputs)
    written = sum(n * step.kind.itemsize for n, step in zip(sizes, steps, strict=True))
    largest = max((job.held for step in steps for job in _jobs(step)), default=0)
    return Cost(read, written, _STILL + max(BUDGET, largest))


def _jobs(step: Step) -> list[_Job]:
    """Parts of nearly equal size: a last one of few entries would be summed in another order."""
    if not step.can_be_cut or not step.shape or not math.prod(step.shape):
        return [_Job(step, ...)]
    rows = step.shape[0]
    most = max(1, PART // (math.prod(step.shape[1:]) * len(step.inputs)))
    count = math.ceil(rows / most)
    ends = [rows * i // count for i in range(count + 1)]
    return [_Job(step, slice(*pair)) for pair in itertools.pairwise(ends)]


def _check_finite(step: Step, inputs: Sequence[Tensor]) -> None:
    for i, tensor in enumerate(inputs):
        if not tensor.is_floating_point():
            continue
        wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor
        if not bool(wide.isfinite().all()):
            who = (
                "the base"
                if step.base is not None and i == len(step.members)
                else f"member {i + 1}"
            )
            raise ValueError(
                f"{step.name}: {who} holds NaN or infinity; a diverged checkpoint cannot be merged"
            )
