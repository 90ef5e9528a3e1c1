"""Solvers of the matching problem."""

from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.exhaustive import ExhaustiveMatching
from wsl.matching.solvers.sinkhorn import SinkhornMatching
from wsl.matching.solvers.ste import STEMatching
from wsl.matching.solvers.weight import BUFFERS, WeightMatching, aligned_tensors

__all__ = [
    "BUFFERS",
    "ExhaustiveMatching",
    "STEMatching",
    "SinkhornMatching",
    "WeightMatching",
    "aligned_tensors",
    "assign",
]
