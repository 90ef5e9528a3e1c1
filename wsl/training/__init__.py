"""Train neural functionals on zoos: objectives, one loop, evaluation."""

from wsl.training.fit import Fit, Settings, evaluate, fit
from wsl.training.objective import LabelClassification, Objective, ScoreRegression

__all__ = ["Fit", "LabelClassification", "Objective", "ScoreRegression", "Settings", "evaluate", "fit"]
