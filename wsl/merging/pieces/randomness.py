"""Random numbers of a merge: a function of the seed, the tensor's name, the member and the entry.

So a result does not depend on the order of tensors, on how many are merged in one process, on the
number of threads, or on PYTHONHASHSEED.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from wsl.base import counter


def uniform_like(tensors: Tensor, *, seed: int, name: str) -> Tensor:
    """Float64 in [0, 1) for every entry of stacked tensors (T, *shape)."""
    digest = hashlib.sha256(name.encode()).digest()
    word = int.from_bytes(digest[:8], "big") >> 1  # 63 bits: int64 has a sign
    entries = torch.arange(tensors[0].numel(), device=tensors.device)
    members = torch.arange(len(tensors), device=tensors.device)[:, None]
    return counter.uniform(seed, word, members, entries).view(tensors.shape)
