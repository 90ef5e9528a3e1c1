"""Random numbers of a merge: a function of the seed, the tensor's name, the member and the entry.

So a result does not depend on the order of tensors, on how many are merged in one process, on the
number of threads, or on PYTHONHASHSEED. A part of a tensor draws as it does in the whole, once it
is said where it begins.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from wsl.base import counter

_FIRST = contextvars.ContextVar("first", default=0)


def uniform_like(tensors: Tensor, *, seed: int, name: str) -> Tensor:
    """Float64 in [0, 1) for every entry of stacked tensors (T, *shape)."""
    digest = hashlib.sha256(name.encode()).digest()
    word = int.from_bytes(digest[:8], "big") >> 1  # 63 bits: int64 has a sign
    first = _FIRST.get()
    entries = torch.arange(first, first + tensors[0].numel(), device=tensors.device)
    members = torch.arange(len(tensors), device=tensors.device)[:, None]
    return counter.uniform(seed, word, members, entries).view(tensors.shape)


@contextlib.contextmanager
def entries_from(first: int) -> Iterator[None]:
    """Let tensors be parts of larger ones, whose entries before ``first`` are not given."""
    token = _FIRST.set(first)
    try:
        yield
    finally:
        _FIRST.reset(token)


def entries_after(first: int) -> contextlib.AbstractContextManager[None]:
    """The same for a part of such a part."""
    return entries_from(_FIRST.get() + first)
