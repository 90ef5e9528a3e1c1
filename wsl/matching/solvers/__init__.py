"""Solvers of the matching problem."""

from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.weight import BUFFERS, WeightMatching, aligned_tensors

__all__ = [
    "BUFFERS",
    "WeightMatching",
    "aligned_tensors",
    "assign",
]
