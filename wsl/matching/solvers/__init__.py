"""Solvers of the matching problem."""

from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.cut import CutWeights, RowWeights, noise_of, products
from wsl.matching.solvers.found import FoundRows
from wsl.matching.solvers.gram import blind_gram, gram, total, unknown_axes
from wsl.matching.solvers.step import ALL, BlockStep, MovedUnits, Rows, Scores, move_piece
from wsl.matching.solvers.weight import BUFFERS, WeightMatching, aligned_tensors

__all__ = [
    "ALL",
    "BUFFERS",
    "BlockStep",
    "CutWeights",
    "FoundRows",
    "MovedUnits",
    "RowWeights",
    "Rows",
    "Scores",
    "WeightMatching",
    "aligned_tensors",
    "assign",
    "blind_gram",
    "gram",
    "move_piece",
    "noise_of",
    "products",
    "total",
    "unknown_axes",
]
