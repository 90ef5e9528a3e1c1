"""Find the group element that aligns two networks, or many to one reference.

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 3\\nin.weight: h 2\\nout.weight: 1 h")
>>> a = {"in.weight": torch.arange(6.0).view(3, 2), "out.weight": torch.ones(1, 3)}
>>> b = {"in.weight": a["in.weight"][[2, 0, 1]], "out.weight": torch.ones(1, 3)}
>>> found = match(spec, a, b)
>>> found.permutation.indices["h"].tolist(), found.objective, found.converged
([1, 2, 0], 58.0, True)
>>> torch.equal(found(b)["in.weight"], a["in.weight"])
True
"""

from collections.abc import Mapping
from types import MappingProxyType

from wsl.matching import large
from wsl.matching.distance import aligned_distance, nearest
from wsl.matching.gauge import align_scales
from wsl.matching.large import match_sources, open_files
from wsl.matching.linear import align_linear
from wsl.matching.many import (
    MANY,
    CycleConsistent,
    JointMatch,
    ManyMatcher,
    MergeMany,
    ToReference,
    align,
    check_rows,
    match_all,
    match_many,
    mean_of,
)
from wsl.matching.problem import match
from wsl.matching.result import ElementRows, Match, Matcher
from wsl.matching.solvers import (
    ActivationMatching,
    CircuitMatching,
    ExhaustiveMatching,
    ExpertOrder,
    ExpertView,
    LearnedMatching,
    SinkhornMatching,
    STEMatching,
    StraightPermutations,
    WeightMatching,
    aligned_tensors,
    assign,
    fold_norms,
    folded_spec,
    free_groups,
    order_by_gates,
    order_by_grams,
    squared_distance,
)
from wsl.matching.wider import (
    Transported,
    Widened,
    deepen,
    transport,
    widen,
    written_axes,
)

MATCHERS: Mapping[str, type] = MappingProxyType(
    {
        "weight": WeightMatching,
        "activation": ActivationMatching,
        "circuits": CircuitMatching,
        "exhaustive": ExhaustiveMatching,
        "ste": STEMatching,
        "sinkhorn": SinkhornMatching,
    }
)
"""Every matcher by its name on the command line; tests and documentation go through them."""

__all__ = [
    "MANY",
    "MATCHERS",
    "ActivationMatching",
    "CircuitMatching",
    "CycleConsistent",
    "ElementRows",
    "ExhaustiveMatching",
    "ExpertOrder",
    "ExpertView",
    "JointMatch",
    "LearnedMatching",
    "ManyMatcher",
    "Match",
    "Matcher",
    "MergeMany",
    "STEMatching",
    "SinkhornMatching",
    "StraightPermutations",
    "ToReference",
    "Transported",
    "WeightMatching",
    "Widened",
    "align",
    "align_linear",
    "align_scales",
    "aligned_distance",
    "aligned_tensors",
    "assign",
    "check_rows",
    "deepen",
    "fold_norms",
    "folded_spec",
    "free_groups",
    "large",
    "match",
    "match_all",
    "match_many",
    "match_sources",
    "mean_of",
    "nearest",
    "open_files",
    "order_by_gates",
    "order_by_grams",
    "squared_distance",
    "transport",
    "widen",
    "written_axes",
]
