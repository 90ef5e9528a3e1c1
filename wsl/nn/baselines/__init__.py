"""Baselines that a neural functional has to beat: tensor statistics, boosted trees, a plain MLP."""

from wsl.nn.baselines.flat import FlatMLP
from wsl.nn.baselines.statboost import StatBoost
from wsl.nn.baselines.statnet import STATISTICS, StatNet, weight_statistics

__all__ = [
    "STATISTICS",
    "FlatMLP",
    "StatBoost",
    "StatNet",
    "weight_statistics",
]
