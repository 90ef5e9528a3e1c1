"""The fair trial of a generator: worth, novelty, behaviour.

drawing            every arm drawn once, under equal conditions
arms               starts that a generator has to beat
trial, rates       accuracy as drawn and after the same training for all
distances          how far networks are from members, and from each other
behaviour          errors in common, disagreement, use in an ensemble
novelty            all of these for networks beside members: what is good and new
verdict            which arms are beaten, and what is wrong
judge, tasks       the whole trial: of one task, of tasks told by examples
curves             starts side by side at equal budget, for ``wsl init-compare``
"""

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
from wsl.generative.judge.behaviour import max_iou
from wsl.generative.judge.curves import Budget, Curve, compare_starts
from wsl.generative.judge.distances import (
    Nearest,
    aligned_nearest,
    dispersion_ratio,
    leave_one_out,
)
from wsl.generative.judge.drawing import GENERATED
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
