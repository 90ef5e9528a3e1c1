"""Train neural functionals on zoos: objectives, one loop, evaluation."""

from __future__ import annotations

import importlib
from typing import Any

from wsl.training.columns import learn_columns
from wsl.training.loop import Fit, Settings, evaluate, fit, settle, training_rows
from wsl.training.objectives import ImageEdit, LabelClassification, Objective, ScoreRegression
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
    "settle",
    "training_rows",
]


def __getattr__(name: str) -> Any:
    if name == "optimize":  # its name before it had a room of its own
        return importlib.import_module("wsl.learned_optimizers")
    raise AttributeError(f"module 'wsl.training' has no attribute {name!r}")
