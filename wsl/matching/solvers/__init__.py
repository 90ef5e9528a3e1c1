"""Solvers of the matching problem."""

from wsl.matching.solvers.activation import ActivationMatching
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.weight import BUFFERS, WeightMatching, aligned_tensors

__all__ = [
    "BUFFERS",
    "ActivationMatching",
    "WeightMatching",
    "aligned_tensors",
    "assign",
]
