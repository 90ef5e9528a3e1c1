"""Train neural functionals on zoos: objectives, one loop, evaluation."""

from __future__ import annotations

import importlib
from typing import Any

from wsl.training.augmentation import Variety, WeightAugmentation
from wsl.training.columns import learn_columns
from wsl.training.launch import alongside, is_first
from wsl.training.loop import (
    Descent,
    Fit,
    Hardware,
    LostRank,
    RandomRows,
    Ranks,
    Saved,
    Settings,
    evaluate,
    fit,
    progress_bar,
    recalibrate,
    training_rows,
)
from wsl.training.objectives import ImageEdit, LabelClassification, Objective, ScoreRegression

settle = recalibrate  # its first name

__all__ = [
    "Descent",
    "Fit",
    "Hardware",
    "ImageEdit",
    "LabelClassification",
    "LostRank",
    "Objective",
    "RandomRows",
    "Ranks",
    "Saved",
    "ScoreRegression",
    "Settings",
    "Variety",
    "WeightAugmentation",
    "alongside",
    "evaluate",
    "fit",
    "is_first",
    "learn_columns",
    "progress_bar",
    "recalibrate",
    "settle",
    "training_rows",
]


def __getattr__(name: str) -> Any:
    if name == "optimize":
        return importlib.import_module("wsl.training.optimize")
    raise AttributeError(f"module 'wsl.training' has no attribute {name!r}")
