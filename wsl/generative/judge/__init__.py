"""The fair trial of a generator: worth, novelty, behaviour."""

from wsl.generative.judge.curves import Budget, Curve, compare_starts
from wsl.generative.judge.evaluate import (
    Nearest,
    aligned_nearest,
    dispersion_ratio,
    leave_one_out,
    max_iou,
)
from wsl.generative.judge.judge import Judgement, judge
from wsl.generative.judge.trial import Trial, trial

__all__ = [
    "Budget",
    "Curve",
    "Judgement",
    "Nearest",
    "Trial",
    "aligned_nearest",
    "compare_starts",
    "dispersion_ratio",
    "judge",
    "leave_one_out",
    "max_iou",
    "trial",
]
