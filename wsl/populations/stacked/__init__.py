"""Stacked training: many members as one pure update, each with its own hyper-parameters."""

from wsl.populations.stacked.hyperparameters import (
    check_log_uniform,
    check_share,
    choose,
    log_uniform,
    uniform,
)
from wsl.populations.stacked.optimizers import SGD, Adam, AdamW, Optimizer, build_optimizer
from wsl.populations.stacked.schedules import Constant, Cosine, Schedule, Steps, build_schedule
from wsl.populations.stacked.start import initial_population
from wsl.populations.stacked.train import Trained, finite_members, train_population

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Optimizer",
    "Schedule",
    "Steps",
    "Trained",
    "build_optimizer",
    "build_schedule",
    "check_log_uniform",
    "check_share",
    "choose",
    "finite_members",
    "initial_population",
    "log_uniform",
    "train_population",
    "uniform",
]
