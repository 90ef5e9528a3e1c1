"""Steps run in order, several at a time, in bounded memory.

    read part of all inputs -> solve -> hand on          one job; jobs overlap, results do not

    held    parts                                        by methods that treat entries or rows
            one result, in its type                      by methods that read tensors in passes
            one result and the inputs in float32, ...    by methods that need a whole tensor

Parts have `PART` entries in all, so that what is held does not depend on the tensor. Large tensors
are merged one at a time otherwise. Bytes do not depend on the number of threads.
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
from typing import NamedTuple, cast

import torch
from torch import Tensor

from wsl.matching import large
from wsl.merging.pieces import one_thread
from wsl.merging.streamed.step import Step
from wsl.params import all_finite

PART = 2**20
"""Entries of all inputs together that a job has, if it can be cut."""
BUDGET = 128 << 20
"""Bytes of jobs in flight, unless one job alone needs more."""
THREADS = min(4, os.cpu_count() or 1)
_WIDE = 24
"""Bytes that a method holds for each entry of its inputs: some copies in float32 or float64."""
_SELECTED = 0.4
"""The same of a method that reads in passes: what lies between limits when a rank is looked for."""
_BLOCKS = 8 << 20
"""Bytes of the parts that such a method has at a time."""
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
        step, rows = self.step, self.rows
        size = math.prod(step.shape)
        if isinstance(rows, slice):
            size = (rows.stop - rows.start) * math.prod(step.shape[1:])
        elif step.reads:
            doubles = getattr(step.method, "doubles", 0)
            each = doubles * 8 + 4 * len(step.inputs) if doubles else len(step.members) * _SELECTED
            return math.ceil(size * (each + step.kind.itemsize)) + _BLOCKS
        sizes = sum(tensor.dtype.itemsize + _WIDE for tensor in step.inputs)
        return size * (sizes + step.kind.itemsize)

    def run(self) -> Tensor:
        if getattr(self.step.method, "doubles", 0):
            return self._run()
        with one_thread():
            return self._run()

    def _run(self) -> Tensor:
        step, rows = self.step, self.rows
        if step.reads and not isinstance(rows, slice):
            return step.solve([_looked_at(step, i) for i in range(len(step.inputs))])
        inputs = step.read(rows)
        for i, tensor in enumerate(inputs):
            _check_finite(step, i, tensor)
        first = 0 if not isinstance(rows, slice) else rows.start
        return step.solve(inputs, first * math.prod(step.shape[1:]))


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


@dataclasses.dataclass(frozen=True, eq=False)
class _LookedAt:
    """A tensor in a file of which every part that is read is looked at."""

    step: Step
    number: int

    @property
    def shape(self) -> torch.Size:
        return self.step.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.step.inputs[self.number].dtype

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        return self._checked(self.step.inputs[self.number][rows])

    def entries(self, first: int, stop: int) -> Tensor:
        tensor = cast("large.FileTensor", self.step.inputs[self.number])
        return self._checked(tensor.entries(first, stop))

    def _checked(self, part: Tensor) -> Tensor:
        _check_finite(self.step, self.number, part)
        return part


def _looked_at(step: Step, number: int) -> large.TensorSlices:
    """An input, which is looked at now, or if it lies in a file when it is read."""
    tensor = step.inputs[number]
    if hasattr(tensor, "entries"):
        return _LookedAt(step, number)
    whole = tensor[...]
    _check_finite(step, number, whole)
    return whole


def _check_finite(step: Step, number: int, part: Tensor) -> None:
    if not all_finite(part):
        of_base = step.base is not None and number == len(step.members)
        who = "the base" if of_base else f"member {number + 1}"
        raise ValueError(
            f"{step.name}: {who} holds NaN or infinity; a diverged checkpoint cannot be merged"
        )
