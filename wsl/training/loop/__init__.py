"""The training loop: settings, resume, compiled and recorded steps, evaluation."""

from wsl.training.loop.evaluate import evaluate
from wsl.training.loop.fit import fit
from wsl.training.loop.minibatch import Descent, Hardware, RandomRows, Saved, progress_bar
from wsl.training.loop.ranks import LostRank, Ranks
from wsl.training.loop.recalibrate import recalibrate
from wsl.training.loop.rows import training_rows
from wsl.training.loop.settings import Fit, Settings

__all__ = [
    "Descent",
    "Fit",
    "Hardware",
    "LostRank",
    "RandomRows",
    "Ranks",
    "Saved",
    "Settings",
    "evaluate",
    "fit",
    "progress_bar",
    "recalibrate",
    "training_rows",
]
