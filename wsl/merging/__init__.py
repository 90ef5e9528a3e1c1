"""Combine networks: interpolate, average, repair, and measure what lies between them."""

from wsl.connectivity import (
    Evaluate,
    PathLosses,
    accuracy_barrier,
    lerp,
    loss_barrier,
    mean_barrier,
    path_losses,
    reset_batch_norm,
)
from wsl.merging.merge import align, average, merge

__all__ = [
    "Evaluate",
    "PathLosses",
    "accuracy_barrier",
    "align",
    "average",
    "lerp",
    "loss_barrier",
    "mean_barrier",
    "merge",
    "path_losses",
    "reset_batch_norm",
]
