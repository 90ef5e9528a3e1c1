"""Starts that a generator has to beat: they learn nothing, or are asked for the wrong thing."""

from wsl.generative.judge.arms.conditions import (
    MeanConditionStart,
    RandomConditionStart,
    WrongConditionStart,
)
from wsl.generative.judge.arms.floors import nearest_mean_accuracy, ridge_accuracy
from wsl.generative.judge.arms.mixtures import GaussianCodeStart, InterpolationStart
from wsl.generative.judge.arms.noise import EqualNoveltyStart, scale_of_novelty

CONDITION_ARMS = {
    "wrong_condition": WrongConditionStart,
    "random_condition": RandomConditionStart,
    "mean_condition": MeanConditionStart,
}
"""The generator asked for something else: for generators with a condition."""

ARMS = {
    "interpolation": InterpolationStart,
    "gaussian_codes": GaussianCodeStart,
    **CONDITION_ARMS,
}
"""Arms that the judge adds to the initialisers, by name; each is made without arguments."""

__all__ = [
    "ARMS",
    "CONDITION_ARMS",
    "EqualNoveltyStart",
    "GaussianCodeStart",
    "InterpolationStart",
    "MeanConditionStart",
    "RandomConditionStart",
    "WrongConditionStart",
    "nearest_mean_accuracy",
    "ridge_accuracy",
    "scale_of_novelty",
]
