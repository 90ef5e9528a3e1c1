"""Solvers of the matching problem."""

from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.weight import WeightMatching, voters

__all__ = [
    "WeightMatching",
    "assign",
    "voters",
]
