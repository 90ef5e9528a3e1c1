"""Solvers of the matching problem."""

from wsl.matching.solvers.activation import ActivationMatching
from wsl.matching.solvers.ascent import of_chosen, paired
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.circuits import CircuitMatching, best_map, best_rotation
from wsl.matching.solvers.clock import Clock
from wsl.matching.solvers.cut import CutWeights, RowWeights, Stepping, like_of, noise_of, products
from wsl.matching.solvers.exhaustive import ExhaustiveMatching
from wsl.matching.solvers.expert_order import ExpertOrder, order_by_gates, order_by_grams
from wsl.matching.solvers.experts import ExpertView
from wsl.matching.solvers.folded import fold_norms, folded_spec
from wsl.matching.solvers.found import FoundRows
from wsl.matching.solvers.gram import blind_gram, gram, total, unknown_axes
from wsl.matching.solvers.heads import HeadBlock, ends, head_blocks, matched_heads
from wsl.matching.solvers.learned import LearnedMatching
from wsl.matching.solvers.sinkhorn import SinkhornMatching
from wsl.matching.solvers.ste import STEMatching
from wsl.matching.solvers.step import ALL, BlockStep, MovedUnits, Rows, Scores, move_piece
from wsl.matching.solvers.straight import StraightPermutations, free_groups
from wsl.matching.solvers.sums import inner_product, squared_distance
from wsl.matching.solvers.weight import BUFFERS, WeightMatching, aligned_tensors

__all__ = [
    "ALL",
    "BUFFERS",
    "ActivationMatching",
    "BlockStep",
    "CircuitMatching",
    "Clock",
    "CutWeights",
    "ExhaustiveMatching",
    "ExpertOrder",
    "ExpertView",
    "FoundRows",
    "HeadBlock",
    "LearnedMatching",
    "MovedUnits",
    "RowWeights",
    "Rows",
    "STEMatching",
    "Scores",
    "SinkhornMatching",
    "Stepping",
    "StraightPermutations",
    "WeightMatching",
    "aligned_tensors",
    "assign",
    "best_map",
    "best_rotation",
    "blind_gram",
    "ends",
    "fold_norms",
    "folded_spec",
    "free_groups",
    "gram",
    "head_blocks",
    "inner_product",
    "like_of",
    "matched_heads",
    "move_piece",
    "noise_of",
    "of_chosen",
    "order_by_gates",
    "order_by_grams",
    "paired",
    "products",
    "squared_distance",
    "total",
    "unknown_axes",
]
