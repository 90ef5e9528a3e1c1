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
from wsl.matching.gauge import align_scales
from wsl.matching.many import align, check_rows, match_many, mean_of
from wsl.matching.problem import match
from wsl.matching.result import ElementRows, Match, Matcher
from wsl.matching.solvers import WeightMatching, aligned_tensors

MATCHERS: Mapping[str, type] = MappingProxyType({"weight": WeightMatching})
"""Every matcher by its name on the command line; tests and documentation go through them."""

__all__ = [
    "MATCHERS",
    "ElementRows",
    "Match",
    "Matcher",
    "WeightMatching",
    "align",
    "align_scales",
    "aligned_distance",
    "aligned_tensors",
    "check_rows",
    "match",
    "match_many",
    "mean_of",
    "nearest",
]
