"""Batches of inputs without labels, as a data loader yields them, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

Batches = Iterable[Tensor | tuple[Tensor, ...]]
"""Inputs of a network: tensors, or tuples that start with them, as data loaders yield."""


def inputs_of(batches: Batches, what: str) -> list[Tensor]:
    """The inputs in ``batches`` that have the shape of the first; a smaller last one is left out.

    Raises ValueError without a batch.
    """
    found = [first_of(batch, what) for batch in batches]
    check_some(len(found), what)
    return [batch for batch in found if batch.shape == found[0].shape]


def first_of(batch: Tensor | Sequence[Tensor], what: str) -> Tensor:
    """The inputs of a batch; raises ValueError for what is neither a tensor nor led by one."""
    first = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(first, Tensor):
        raise ValueError(
            f"{what}: a batch is a tensor of inputs, or a tuple or list that starts with it, "
            f"got {type(batch).__name__}"
        )
    return first


def check_some(count: int, what: str) -> None:
    """Raise ValueError for no batches at all."""
    if not count:
        raise ValueError(
            f"{what}: no batches were given, so there is nothing to measure; was an iterator used "
            "up?"
        )
