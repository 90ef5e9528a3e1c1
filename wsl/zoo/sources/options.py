"""`ImportOptions`: how checkpoints are read, and how their file is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from torch import nn

from wsl.symmetry import PermutationSpec
from wsl.zoo.write import FileOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions(FileOptions):
    """How checkpoints are read and their file is written; those of `FileOptions` besides.

    Parameters
        spec: the specification; None: what exported files say of themselves, else all axes fixed.
        buffers: names of the tensors that are not trained; None: what exported files say, else
            batch-norm statistics and integers.
        prefix: removed from the names of tensors, for example ``"module."``; names without it stay.
        cast: floating tensors are first cast to this type, for example torch.float32.
        dtype: the type in which the file keeps them; None: what exported files say, else
            torch.float32.
        skip: leave out what cannot be read or does not fit, instead of raising.
        model: the network, which tells what weights are tied and may be saved once.
        only: the architecture to take where a source holds several: its name or number in the
            list that the error gives.
    """

    spec: PermutationSpec | None = None
    model: nn.Module | None = None
    buffers: Collection[str] | None = None
    prefix: str = ""
    cast: torch.dtype | None = None
    skip: bool = False
    only: str | int | None = None
