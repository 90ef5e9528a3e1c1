"""What lies between networks: paths, planes, loss barriers, and the repair of what was averaged.

    interpolate.py, curves.py, planes.py     lines, trained curves and planes
    paths.py, barriers.py, calibrate.py      losses along them, of one pair or of several
    repairs/                                 REPAIR, least squares, batch-norm statistics
    diagnostics/                             why a pair is connected, or is not

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
from wsl.connectivity.diagnostics import (
    ConnectivityReport,
    InputAlignment,
    LayerDistances,
    SingularAlignment,
    SingularSpectra,
    TaylorBarrier,
    ThreeModels,
    input_alignment,
    layer_distances,
    report,
    singular_alignment,
    singular_spectra,
    taylor_barrier,
    three_models,
)
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
from wsl.connectivity.repairs import (
    Batches,
    Repaired,
    RepairedSite,
    average_products,
    least_squares,
    repair,
    repair_closed_form,
    repair_on_noise,
    reset_batch_norm,
)

__all__ = [
    "SCORES",
    "BatchLoss",
    "Batches",
    "Bezier",
    "Calibration",
    "ConnectivityReport",
    "Evaluate",
    "InputAlignment",
    "LayerDistances",
    "PathLosses",
    "PlaneLosses",
    "Repaired",
    "RepairedSite",
    "SingularAlignment",
    "SingularSpectra",
    "Spread",
    "TaylorBarrier",
    "ThreeModels",
    "WeightPath",
    "accuracy_barrier",
    "average_products",
    "barriers",
    "bezier",
    "calibrated",
    "check_alike",
    "input_alignment",
    "layer_distances",
    "least_squares",
    "lerp",
    "loss_barrier",
    "mean_barrier",
    "path_losses",
    "plane",
    "repair",
    "repair_closed_form",
    "repair_on_noise",
    "report",
    "reset_batch_norm",
    "singular_alignment",
    "singular_spectra",
    "taylor_barrier",
    "three_models",
]
