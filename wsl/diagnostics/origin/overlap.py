"""How two changes of one base lie to each other: what tells whether merging them will interfere.

    effective rank     exp(H(sigma / sum sigma)) of the stacked changes, 1 (parallel) to N
    right overlap      |V_1 V_2^T|_F / sqrt(k),  V_i the k leading right singular vectors, 0 to 1

Neither needs data. They are two of the measures of arXiv 2601.22285 (2026), in which right overlap
was among the best at foretelling which pairs merge. Its code divides another of its overlaps by k,
by which ten equal directions overlap by .316 and not by 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsl.diagnostics.spectra import entropy_rank


@torch.no_grad()
def effective_rank(changes: Sequence[Tensor]) -> float:
    """How many directions N changes of one shape span; those that are zero span none.

    Raises ValueError without changes.
    """
    if not changes:
        raise ValueError("effective_rank: no changes given; at least one is needed")
    values = torch.linalg.svdvals(torch.stack([x.double().flatten() for x in changes]))
    return entropy_rank(values)


@torch.no_grad()
def right_overlap(one: Tensor, other: Tensor, rank: int) -> float:
    """Overlap of the input directions that two changes (m, n) act on, of the leading ``rank``."""
    if one.dim() != 2 or one.shape[1:] != other.shape[1:] or other.dim() != 2:
        raise ValueError(
            f"right_overlap: shapes {tuple(one.shape)} and {tuple(other.shape)} were given, but "
            "two matrices with the same number of columns are needed"
        )
    if not 1 <= rank <= min(*one.shape, *other.shape):
        raise ValueError(
            f"right_overlap: rank is {rank}, but it must be from 1 to "
            f"{min(*one.shape, *other.shape)}"
        )
    first, second = (
        torch.linalg.svd(x.double(), full_matrices=False).Vh[:rank] for x in (one, other)
    )
    return float((first @ second.mT).norm()) / rank**0.5
