"""`FileOptions`: how a zoo file is written, apart from what is in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from wsl.zoo.rows import Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How a zoo file is written, apart from what is in it.

    Parameters
        architecture: the description that builds the network; None: unknown.
        provenance: what is known of where the checkpoints come from, plain JSON values.
        split: fractions of the members for train, val and test, or a function that says the code of
            each member.
        seed: draws the splits.
        allow_nonfinite: whether weights may be NaN or infinite.
        dtype: torch.bfloat16 or torch.float16 rounds the weights and halves the file; None:
            torch.float32.
    """

    architecture: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    split: Split = (0.8, 0.1, 0.1)
    seed: int = 0
    allow_nonfinite: bool = False
    dtype: torch.dtype | None = None
