"""What weights tell about themselves: where they come from.

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 50\\nin.weight: h 20\\nout.weight: 10 h")
>>> rng = torch.Generator().manual_seed(0)
>>> a, b = ({k: torch.randn(s, generator=rng) for k, s in spec.shapes.items()} for _ in range(2))
>>> common_origin(spec, a, b).log10_p > -2
True
>>> b["in.weight"][:10], b["out.weight"][:, :10] = a["in.weight"][:10], a["out.weight"][:, :10]
>>> found = common_origin(spec, a, b)
>>> found.fixed >= (10, 50), found.log10_p < -6
(True, True)
"""

from wsl.diagnostics.origin import (
    KINDS,
    VERDICTS,
    Agreement,
    AlignmentState,
    CommonOrigin,
    DescentTree,
    DifferenceRank,
    GroupAgreement,
    GroupOrigin,
    MergeRecipe,
    MixtureFit,
    OriginEvidence,
    TensorComparison,
    TensorPair,
    agreement,
    common_origin,
    compare_tensors,
    descent,
    difference_rank,
    effective_rank,
    kurtosis,
    log_fisher,
    log_law,
    log_tail,
    merge_recipe,
    origin_evidence,
    rank_p,
    relative_distances,
    right_overlap,
)

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
    "common_origin",
    "compare_tensors",
    "descent",
    "difference_rank",
    "effective_rank",
    "kurtosis",
    "log_fisher",
    "log_law",
    "log_tail",
    "merge_recipe",
    "origin_evidence",
    "rank_p",
    "relative_distances",
    "right_overlap",
]
