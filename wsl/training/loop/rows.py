"""Which rows a run reads, in which order, and with what beside their weights.

Whole members are used or left out, and rows are shuffled by the generator of the epoch. On an
accelerator the weights of a zoo lie there, if they fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsl.nn import shared_batch
from wsl.params import Params, on_device
from wsl.training.augmentation import Batch, Prepared
from wsl.training.columns import codes
from wsl.training.loop.ranks import ALONE, Ranks
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints, Resident, ZooError


def training_rows(zoo: Checkpoints, fraction: float) -> np.ndarray:
    """Rows of a ``fraction`` of the training members in (0, 1], at least one; members are whole."""
    if not 0 < fraction <= 1:
        raise ValueError(
            f"fraction is {fraction}, but it must lie in (0, 1]: the share of the training "
            "members to use"
        )
    rows = zoo.indices("train")
    member = zoo.table["member"][rows]
    order = np.random.default_rng(0).permutation(np.unique(member))
    return rows[np.isin(member, order[: max(1, round(fraction * len(order)))])]


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Shuffled, augmented batches of the training rows, and how many there are in an epoch."""

    network: nn.Module
    zoo: Checkpoints
    rows: np.ndarray
    augmentation: Prepared
    size: int
    ranks: Ranks = ALONE

    def epoch(self, rng: torch.Generator) -> list[Tensor]:
        """Positions in ``rows`` of the batches of an epoch, in random order."""
        return list(torch.randperm(len(self.rows), generator=rng).split(self.size))

    def loss(
        self, network: Any, where: Tensor, objective: Objective, *, rng: torch.Generator
    ) -> Tensor:
        """Mean loss of ``network`` on the rows at positions ``where``.

        Where they are shared out, the mean over processes of what each returns is that mean.
        """
        batch, more, metadata = self.read(where, rng)
        device = next(self.network.parameters()).device
        with self._shared(where):
            outputs = network(on_device(batch.params, device), *(code.to(device) for code in more))
        loss = batch.loss(objective, outputs, metadata)
        if not self.ranks.splits(len(where)):
            return loss
        mine = next(iter(batch.params.values()))
        return loss * (len(mine) * self.ranks.count / len(where))

    def read(
        self, where: Tensor, rng: torch.Generator
    ) -> tuple[Batch, tuple[Tensor, ...], dict[str, Tensor]]:
        """This process's part: weights, codes of columns if the network reads any, and metadata.

        What is drawn at random is drawn for the whole batch by each process, so that it does not
        depend on their number.
        """
        count = len(where)
        part = self.ranks.share(count) if self.ranks.splits(count) else slice(None)
        if not self.augmentation.draws:
            where, part = where[part], slice(None)
        rows = self.rows[where.numpy()]
        theta, metadata = self.zoo.__getitems__(rows)
        batch = self.augmentation(theta, where, rng)
        batch = batch if part == slice(None) else batch.cut(part)
        more = tuple(batch.mix(code) for code in codes(self.network, self.zoo, rows))
        return batch, more, metadata

    def sample(self, count: int = 512) -> Iterator[tuple[Params, tuple[Tensor, ...]]]:
        """Weights and codes of at most ``count`` rows as training reads them, always the same.

        Each is shared out among the processes for as long as it is the last that was taken.
        """
        rng = torch.Generator().manual_seed(0)
        for where in torch.randperm(len(self.rows), generator=rng)[:count].split(self.size):
            batch, more, _ = self.read(where, rng)
            with self._shared(where):
                yield batch.params, more

    def _shared(self, where: Tensor) -> contextlib.AbstractContextManager[None]:
        """Heads standardise over the whole batch."""
        return shared_batch(self.network, len(where) if self.ranks.splits(len(where)) else None)


def in_order(
    network: nn.Module, zoo: Checkpoints, rows: np.ndarray, *, batch_size: int
) -> Iterator[tuple[Params, dict[str, Tensor], tuple[Tensor, ...]]]:
    """Weights, metadata and codes of ``rows``, batch by batch."""
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield *zoo.__getitems__(part), codes(network, zoo, part)


def near(zoo: Checkpoints, device: torch.device) -> Checkpoints:
    """The zoo with its weights on ``device``, if that is an accelerator with room for them."""
    if device.type == "cpu":
        return zoo
    try:
        return Resident(zoo, device)
    except ZooError:  # larger than what is free: read from the file batch by batch
        return zoo
