"""Barriers of several pairs: mean and spread, in both conventions.

    loss_barrier, accuracy_barrier     above the line between the ends (Frankle et al. 2020)
    mean_barrier                       above the mean of the ends (Ainsworth et al. 2023)
    midpoint_loss, midpoint_accuracy   half way

One pair says little: barriers of strangers differ by their seeds. The spread is the standard
deviation over the pairs, with N - 1; of one pair it is NaN. Pairs that share a network are not
independent, which is not corrected for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from wsl.connectivity.paths import PathLosses, accuracy_barrier, loss_barrier, mean_barrier


def midpoint(values: Tensor) -> float:
    """The value half way along a path; of an even number of points, the one just after."""
    return float(values[len(values) // 2])


SCORES: Mapping[str, Callable[[PathLosses], float]] = MappingProxyType(
    {
        "loss_barrier": loss_barrier,
        "mean_barrier": mean_barrier,
        "accuracy_barrier": accuracy_barrier,
        "midpoint_loss": lambda path: midpoint(path.loss),
        "midpoint_accuracy": lambda path: midpoint(path.accuracy),
    }
)
"""What is told of a path, by name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """``values`` (pairs,) of one score, float64, with their mean and standard deviation."""

    values: Tensor

    @property
    def mean(self) -> float:
        """The mean over the pairs."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """The standard deviation over the pairs, with N - 1; NaN of one pair."""
        return float(self.values.std()) if len(self.values) > 1 else float("nan")

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.std:.4f} ({len(self.values)} pairs)"


def barriers(paths: Sequence[PathLosses]) -> dict[str, Spread]:
    """Every score of `SCORES` over the ``paths`` of several pairs.

    Raises ValueError without a path.
    """
    if not paths:
        raise ValueError("barriers: got no paths; at least one is needed")
    return {
        name: Spread(torch.tensor([score(path) for path in paths], dtype=torch.float64))
        for name, score in SCORES.items()
    }
