"""Objectives: what a neural functional is trained to predict or edit."""

from wsl.training.objectives.edit import ImageEdit
from wsl.training.objectives.scores import (
    LabelClassification,
    Objective,
    ScoreRegression,
    check_labels,
    column,
)

__all__ = [
    "ImageEdit",
    "LabelClassification",
    "Objective",
    "ScoreRegression",
    "check_labels",
    "column",
]
