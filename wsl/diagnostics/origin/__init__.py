"""Where weights come from: common origin, descent, and the recipe of a merge."""

from wsl.diagnostics.origin.combine import colours, log_bonferroni, log_combined, log_fisher
from wsl.diagnostics.origin.evidence import (
    VERDICTS,
    AlignmentState,
    OriginEvidence,
    equal_matrices,
    origin_evidence,
)
from wsl.diagnostics.origin.fixed_points import CommonOrigin, GroupOrigin, common_origin
from wsl.diagnostics.origin.overlap import effective_rank, right_overlap
from wsl.diagnostics.origin.ranks import DifferenceRank, difference_rank
from wsl.diagnostics.origin.recipe import MergeRecipe, MixtureFit, merge_recipe
from wsl.diagnostics.origin.rencontres import log_law, log_tail
from wsl.diagnostics.origin.tensors import KINDS, TensorComparison, TensorPair, compare_tensors
from wsl.diagnostics.origin.tree import DescentTree, descent, kurtosis, relative_distances
from wsl.diagnostics.origin.views import Agreement, GroupAgreement, agreement, rank_p

__all__ = [
    "KINDS",
    "VERDICTS",
    "Agreement",
    "AlignmentState",
    "CommonOrigin",
    "DescentTree",
    "DifferenceRank",
    "GroupAgreement",
    "GroupOrigin",
    "MergeRecipe",
    "MixtureFit",
    "OriginEvidence",
    "TensorComparison",
    "TensorPair",
    "agreement",
    "colours",
    "common_origin",
    "compare_tensors",
    "descent",
    "difference_rank",
    "effective_rank",
    "equal_matrices",
    "kurtosis",
    "log_bonferroni",
    "log_combined",
    "log_fisher",
    "log_law",
    "log_tail",
    "merge_recipe",
    "origin_evidence",
    "rank_p",
    "relative_distances",
    "right_overlap",
]
