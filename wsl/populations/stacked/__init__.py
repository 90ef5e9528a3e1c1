"""Stacked training: many members as one pure update, each with hyper-parameters of its own."""

from wsl.populations.stacked.optimizers import SGD, Adam, AdamW, Optimizer, build_optimizer
from wsl.populations.stacked.schedules import Constant, Cosine, Schedule, Steps, build_schedule
from wsl.populations.stacked.start import initial_population
from wsl.populations.stacked.train import (
    MemberSettings,
    SharedSettings,
    Trained,
    finite_members,
    train_population,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "MemberSettings",
    "Optimizer",
    "Schedule",
    "SharedSettings",
    "Steps",
    "Trained",
    "build_optimizer",
    "build_schedule",
    "finite_members",
    "initial_population",
    "train_population",
]
