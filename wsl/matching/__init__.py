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

from wsl.matching.distance import aligned_distance, nearest
from wsl.matching.many import align, check_rows, match_many, mean_of
from wsl.matching.problem import match
from wsl.matching.result import ElementRows, Match, Matcher
from wsl.matching.solvers import (
    ActivationMatching,
    CircuitMatching,
    ExpertOrder,
    ExpertView,
    LearnedMatching,
    WeightMatching,
    aligned_tensors,
    fold_norms,
    folded_spec,
    order_by_gates,
    order_by_grams,
)

MATCHERS: Mapping[str, type] = MappingProxyType(
    {"weight": WeightMatching, "activation": ActivationMatching, "circuits": CircuitMatching}
)
"""Every matcher by its name on the command line; tests and documentation go through them."""

__all__ = [
    "MATCHERS",
    "ActivationMatching",
    "CircuitMatching",
    "ElementRows",
    "ExpertOrder",
    "ExpertView",
    "LearnedMatching",
    "Match",
    "Matcher",
    "WeightMatching",
    "align",
    "aligned_distance",
    "aligned_tensors",
    "check_rows",
    "fold_norms",
    "folded_spec",
    "match",
    "match_many",
    "mean_of",
    "nearest",
    "order_by_gates",
    "order_by_grams",
]
