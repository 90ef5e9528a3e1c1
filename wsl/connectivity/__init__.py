"""What lies between two networks: lines, loss barriers, and batch-norm statistics measured anew.

>>> import torch
>>> def evaluate(theta):
...     return (theta["w"] ** 2 - 1) ** 2, torch.tensor(0.0)
>>> path = path_losses(evaluate, {"w": torch.tensor(-1.0)}, {"w": torch.tensor(1.0)}, points=5)
>>> path.loss.tolist(), loss_barrier(path)
([0.0, 0.5625, 1.0, 0.5625, 0.0], 1.0)
"""

from wsl.connectivity.barriers import SCORES, Spread, barriers
from wsl.connectivity.calibrate import Calibration, calibrated
from wsl.connectivity.curves import BatchLoss, Bezier, bezier
from wsl.connectivity.interpolate import check_alike, lerp
from wsl.connectivity.paths import (
    Evaluate,
    PathLosses,
    WeightPath,
    accuracy_barrier,
    loss_barrier,
    mean_barrier,
    path_losses,
)
from wsl.connectivity.planes import PlaneLosses, plane
from wsl.connectivity.repairs import reset_batch_norm

__all__ = [
    "SCORES",
    "BatchLoss",
    "Bezier",
    "Calibration",
    "Evaluate",
    "PathLosses",
    "PlaneLosses",
    "Spread",
    "WeightPath",
    "accuracy_barrier",
    "barriers",
    "bezier",
    "calibrated",
    "check_alike",
    "lerp",
    "loss_barrier",
    "mean_barrier",
    "path_losses",
    "plane",
    "reset_batch_norm",
]
