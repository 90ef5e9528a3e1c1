"""The fair trial of a generator: baselines, novelty, behaviour."""

from wsl.generative.judge.evaluate import (
    Nearest,
    aligned_nearest,
    dispersion_ratio,
    gaussian_baseline,
    leave_one_out,
    max_iou,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
    round_trip,
)
from wsl.generative.judge.trial import Trial, trial

__all__ = [
    "Nearest",
    "Trial",
    "aligned_nearest",
    "dispersion_ratio",
    "gaussian_baseline",
    "leave_one_out",
    "max_iou",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
    "round_trip",
    "trial",
]
