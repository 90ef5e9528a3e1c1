"""What each member reads at each step: a function of its seed and the step, in any company.

    subset:    the fraction_i M examples, of those allowed, that u(seed_i, 1, j) ranks first
    order:     drawn with replacement, or each example once per epoch by a keyed permutation
    labels:    with probability 1 - noise_i example j keeps its label, else one is drawn, for good

All draws come from `wsl.base.counter`. Images may be augmented
(`wsl.populations.tasks.augmentations`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from wsl.base import counter
from wsl.zoo import ZooError

_SUBSET, _BATCH, _NOISY, _LABEL, _EPOCH, _AUGMENT = 1, 2, 4, 5, 6, 7
"""Streams of one member's randomness; 3 is dropout's (`wsl.populations.architectures`)."""

Augmentation = Callable[[Tensor, Tensor], Tensor]
"""Images (N, B, C, H, W), and keys (N, B) int64 of image and step -> images of that shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class SampledBatches:
    """Batches of N members from shared ``inputs`` and ``targets`` (M, ...), held on one device.

    ``seeds`` (N,) int64; ``fraction`` (N,) in (0, 1] of the examples are a member's own, rounded.
    With ``replacement`` a batch is drawn anew at each step, without it every example is read once
    before one is read again. ``label_noise`` (N,) in [0, 1] needs integer targets, 0..max.
    ``augment`` changes images on their way. ``allowed`` (N, M) bool says which examples a member
    may see at all.
    """

    inputs: Tensor
    targets: Tensor
    seeds: Tensor
    batch_size: int
    fraction: Tensor
    replacement: bool = True
    label_noise: Tensor | None = None
    augment: Augmentation | None = None
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        _check("fraction", self.fraction, self.fraction > 0)
        if self.label_noise is not None:
            _check("label_noise", self.label_noise, self.label_noise >= 0)
        rank = counter.uniform(self.seeds[:, None], _SUBSET, torch.arange(len(self.inputs)))
        available: Tensor | int = len(self.inputs)
        if self.allowed is not None:  # what is not allowed comes last, and is never reached
            rank, available = torch.where(self.allowed, rank, torch.inf), self.allowed.sum(1)
        sizes = (self.fraction * available).round().long().clamp(min=1)
        object.__setattr__(self, "_own", (rank.argsort(1), sizes))

    def of(self, members: Tensor) -> SampledBatches:
        """The batches of the members at these positions."""
        noise = None if self.label_noise is None else self.label_noise[members]
        allowed = None if self.allowed is None else self.allowed[members]
        return dataclasses.replace(
            self,
            seeds=self.seeds[members],
            fraction=self.fraction[members],
            label_noise=noise,
            allowed=allowed,
        )

    def indices(self, step: int) -> Tensor:
        """(N, B) positions in ``inputs`` that the members read at ``step``."""
        order, sizes = self._own  # type: ignore[attr-defined]
        slots, seeds, sizes = torch.arange(self.batch_size), self.seeds[:, None], sizes[:, None]
        if self.replacement:
            drawn = (counter.uniform(seeds, _BATCH, step, slots) * sizes).long()
            return order.gather(1, drawn)
        read = step * self.batch_size + slots
        place = counter.permutation(read % sizes, sizes, seeds, _EPOCH, read // sizes)
        return order.gather(1, place)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, ...) and targets (N, B, ...) of ``step``."""
        index = self.indices(step)
        here = index.to(self.inputs.device)
        inputs, targets = self.inputs[here], self.targets[here]
        if self.label_noise is not None:
            targets = self._noisy(index, targets)
        if self.augment is not None:
            slots = torch.arange(self.batch_size)
            inputs = self.augment(inputs, counter.bits(self.seeds[:, None], _AUGMENT, step, slots))
        return inputs, targets

    def _noisy(self, index: Tensor, targets: Tensor) -> Tensor:
        seeds, classes = self.seeds[:, None], int(self.targets.max()) + 1
        wrong = counter.uniform(seeds, _NOISY, index) < self.label_noise[:, None]  # type: ignore[index]
        drawn = (counter.uniform(seeds, _LABEL, index) * classes).long()
        return torch.where(wrong.to(targets.device), drawn.to(targets), targets)


def _check(name: str, value: Tensor, above: Tensor) -> None:
    if not bool((above & (value <= 1)).all()):
        bracket = "(0, 1]" if name == "fraction" else "[0, 1]"
        raise ZooError(
            f"{name}: {value.min():g} to {value.max():g} given, but it must lie in {bracket}"
        )
