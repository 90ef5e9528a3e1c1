"""Tensors of several members entry by entry, in blocks that stay in the processor's cache.

    entries 0 ... n - 1 of one tensor, or of all tensors as one vector, in the order of their bytes
    block   (T, k) float32 or wider: k entries of all T members, or their difference from the base

What rules hold is one block and not the tensor, which makes a merge as fast as memory is read, and
lets it be read from files. Blocks depend on the tensors' sizes alone, so that a sum over them has
the same bits wherever the tensors lie.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from wsl.matching import large
from wsl.merging.pieces.randomness import entries_after

Flat = Callable[[int, int], Tensor]
"""Some entries of a tensor, as it stores them, from a first one to before a last one."""
BLOCK = 2**17
"""Entries of all members in a block: 512 kB in float32, about what a core keeps near."""
READ = 2**18
"""Entries of a tensor in a file that are read at a time."""


class Blocks(Protocol):
    """Blocks (T, k) that can be gone through several times; each is valid until the next."""

    size: int

    def __iter__(self) -> Iterator[Tensor]:
        """The blocks, in order."""
        ...


class Entries:
    """``tensors``: for each tensor, those of all members, and with ``based`` of the base last.

    ``rows`` cuts between units only: a block is (T, units, k), and a vector is one unit.
    ``label`` is what the tensor is called in errors, ``wide`` in what blocks are computed.
    """

    def __init__(
        self,
        tensors: Sequence[Sequence[large.TensorSlices]],
        *,
        based: bool = False,
        rows: bool = False,
        wide: torch.dtype | None = None,
        label: str = "",
    ) -> None:
        first, self.label = tensors[0][0], label
        self.based, self.count = based, len(tensors[0]) - based
        self.kind = wide or wide_type([each.dtype for row in tensors for each in row])
        self.device = first.device if isinstance(first, Tensor) else torch.device("cpu")
        sizes = [_size(row[0]) for row in tensors]
        self.size = sum(sizes)
        self._ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self._flat = [[_flat(each) for each in row] for row in tensors]
        self.is_vector = len(first.shape) < 2
        units = 1 if self.is_vector else first.shape[0]
        self._row = max(1, self.size // max(1, units))
        self._rows = rows
        self._block = self._length()

    def __iter__(self) -> Iterator[Tensor]:
        """The blocks of the members, without the base."""
        return (block for _, block, _ in self._blocks())

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Blocks:
        """The blocks under a function."""
        return _Mapped(self, change)

    def into(self, outs: Sequence[Tensor], part: Callable[[Tensor], Tensor]) -> None:
        """Write ``part`` of every block, added to the base if there is one, to flat tensors."""
        for first, block, base in self._blocks():
            with entries_after(first):
                found = part(block).flatten()
            if base is not None:
                found = base + found
            for i, start, stop, at in self._segments(first, len(found)):
                outs[i][start:stop].copy_(found[at : at + stop - start])

    def _blocks(self) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """The first entry of each block, the block, and the base's entries."""
        count = self.count + self.based
        shape = (count, min(self._block, self.size))
        held = torch.empty(shape, dtype=self.kind, device=self.device)
        for first in range(0, self.size, self._block):
            block = held[:, : min(self._block, self.size - first)]
            for i, start, stop, at in self._segments(first, block.shape[1]):
                for row, flat in zip(block, self._flat[i], strict=True):
                    row[at : at + stop - start].copy_(flat(start, stop))
            base = block[-1] if self.based else None
            tau = block[: self.count]
            if base is not None:
                tau -= base
            yield first, tau.unflatten(1, (-1, self._row)) if self._rows else tau, base

    def _segments(self, first: int, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Of a block: the tensors it has entries of, from and to where, and where in the block."""
        for i, (begin, end) in enumerate(zip(self._ends, self._ends[1:], strict=False)):
            start, stop = max(first, begin), min(first + count, end)
            if start < stop:
                yield i, start - begin, stop - begin, start - first

    def _length(self) -> int:
        if self.device.type != "cpu":
            return max(1, self.size)  # an accelerator has no cache to fit, and waits for every call
        count = max(2**12, BLOCK // (self.count + self.based))
        return count if not self._rows else max(1, count // self._row) * self._row


class _Mapped:
    def __init__(self, entries: Entries, change: Callable[[Tensor], Tensor]) -> None:
        self.size, self._entries, self._change = entries.size, entries, change

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._change, self._entries)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone.

    Threads that share out a block wait for each other longer than they work, and sums over it would
    depend on their number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def products(entries: Entries) -> Tensor:
    """Inner products (T, T) of all members, float64."""
    shape = (entries.count, entries.count)
    total = torch.zeros(shape, dtype=torch.float64, device=entries.device)
    for block in entries:
        wide = block.flatten(1).double()
        total += wide @ wide.mT
    return total


def wide_type(kinds: Iterable[torch.dtype]) -> torch.dtype:
    """In what a rule computes: float32, or float64 if some member has it."""
    double = {torch.float64, torch.complex128}
    return torch.float64 if any(kind in double for kind in kinds) else torch.float32


def as_real(tensor: Tensor) -> Tensor:
    """Complex numbers gain a last axis of two."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _size(tensor: large.TensorSlices) -> int:
    return math.prod(tensor.shape) * (1 + tensor.dtype.is_complex)


def _flat(tensor: large.TensorSlices) -> Flat:
    if hasattr(tensor, "entries"):
        return _Read(cast("Any", tensor).entries, _size(tensor))
    whole = as_real(tensor[...].detach()).reshape(-1)
    return lambda first, stop: whole[first:stop]


class _Read:
    """Entries of a tensor in a file, of which more are read than are asked for."""

    def __init__(self, entries: Flat, size: int) -> None:
        self._entries, self._size = entries, size
        self._held, self._first = torch.empty(0), 0

    def __call__(self, first: int, stop: int) -> Tensor:
        if not self._first <= first <= stop <= self._first + len(self._held):
            last = min(self._size, max(stop, first + READ))
            self._held, self._first = self._entries(first, last), first
        return self._held[first - self._first : stop - self._first]
