"""The fair trial of a generator: worth, novelty, behaviour."""

from wsl.generative.judge.arms import (
    ARMS,
    CONDITION_ARMS,
    EqualNoveltyStart,
    GaussianCodeStart,
    InterpolationStart,
    MeanConditionStart,
    RandomConditionStart,
    WrongConditionStart,
    nearest_mean_accuracy,
    ridge_accuracy,
)
from wsl.generative.judge.curves import Budget, Curve, compare_starts
from wsl.generative.judge.drawing import GENERATED
from wsl.generative.judge.evaluate import (
    Nearest,
    aligned_nearest,
    dispersion_ratio,
    leave_one_out,
    max_iou,
)
from wsl.generative.judge.judge import Judgement, judge
from wsl.generative.judge.novelty import TAUS, Novelty
from wsl.generative.judge.tasks import TaskJudgement, TaskTraining, TaskTrial, judge_tasks
from wsl.generative.judge.trial import Trial, trial
from wsl.generative.judge.verdict import ArmComparison, Verdict

__all__ = [
    "ARMS",
    "CONDITION_ARMS",
    "GENERATED",
    "TAUS",
    "ArmComparison",
    "Budget",
    "Curve",
    "EqualNoveltyStart",
    "GaussianCodeStart",
    "InterpolationStart",
    "Judgement",
    "MeanConditionStart",
    "Nearest",
    "Novelty",
    "RandomConditionStart",
    "TaskJudgement",
    "TaskTraining",
    "TaskTrial",
    "Trial",
    "Verdict",
    "WrongConditionStart",
    "aligned_nearest",
    "compare_starts",
    "dispersion_ratio",
    "judge",
    "judge_tasks",
    "leave_one_out",
    "max_iou",
    "nearest_mean_accuracy",
    "ridge_accuracy",
    "trial",
]
