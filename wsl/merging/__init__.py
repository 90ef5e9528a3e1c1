"""Combine networks: interpolate, average, repair, and measure what lies between them."""

from wsl.merging.average import align, average, merge
from wsl.merging.connectivity import Evaluate, PathLosses, accuracy_barrier, loss_barrier, mean_barrier, path_losses
from wsl.merging.interpolate import lerp
from wsl.merging.repair import reset_batch_norm

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
