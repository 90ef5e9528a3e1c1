"""The training loop: settings, resume, compiled and recorded steps, evaluation."""

from wsl.training.loop.evaluate import evaluate
from wsl.training.loop.fit import fit
from wsl.training.loop.rows import training_rows
from wsl.training.loop.settings import Fit, Settings
from wsl.training.loop.settle import settle

__all__ = [
    "Fit",
    "Settings",
    "evaluate",
    "fit",
    "settle",
    "training_rows",
]
