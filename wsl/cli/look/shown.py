"""Which part of a population a page shows, and what is said of the rest."""

from __future__ import annotations

import dataclasses

import numpy as np

from wsl.zoo import Checkpoints


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much of a population is shown.

    rows: checkpoints. align: members that are aligned. pairs: members whose distances are compared.
    tsne: whether there are maps by t-SNE. seed: of what is drawn.
    """

    rows: int
    align: int
    pairs: int
    seed: int
    tsne: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """The rows of one architecture that are shown, and what was said on the way."""

    zoo: Checkpoints
    limits: Limits
    notes: list[str]

    def note(self, text: str) -> None:
        """Say that something is not shown, or not of all."""
        self.notes.append(text)


def drawn_rows(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of ``rows``, drawn, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
