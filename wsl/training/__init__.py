"""Train neural functionals on zoos: objectives, one loop, evaluation; and update rules that learn, in `optimize`."""

from wsl.training import optimize
from wsl.training.columns import learn_columns
from wsl.training.edit import ImageEdit
from wsl.training.evaluate import evaluate
from wsl.training.fit import fit
from wsl.training.objective import LabelClassification, Objective, ScoreRegression
from wsl.training.rows import training_rows
from wsl.training.settings import Fit, Settings
from wsl.training.settle import settle
from wsl.training.variety import Variety

__all__ = [
    "Fit",
    "ImageEdit",
    "LabelClassification",
    "Objective",
    "ScoreRegression",
    "Settings",
    "Variety",
    "evaluate",
    "fit",
    "learn_columns",
    "optimize",
    "settle",
    "training_rows",
]
