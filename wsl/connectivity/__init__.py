"""What lies between two networks: lines, loss barriers, and batch-norm statistics measured anew."""

from wsl.connectivity.interpolate import check_alike, lerp
from wsl.connectivity.paths import (
    Evaluate,
    PathLosses,
    accuracy_barrier,
    loss_barrier,
    mean_barrier,
    path_losses,
)
from wsl.connectivity.repair import reset_batch_norm

__all__ = [
    "Evaluate",
    "PathLosses",
    "accuracy_barrier",
    "check_alike",
    "lerp",
    "loss_barrier",
    "mean_barrier",
    "path_losses",
    "reset_batch_norm",
]
