"""Many checkpoints: each brought to one reference, or all of them brought together.

    match_many, align       rows that do not see each other
    match_all               N models to one universe, by a method of `MANY`

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 3\\nin.weight: h 2\\nout.weight: 1 h")
>>> a = {"in.weight": torch.arange(6.0).view(3, 2), "out.weight": torch.ones(1, 3)}
>>> rng = torch.Generator().manual_seed(0)
>>> models = [wsl.Permutation.random(spec, rng)(a) for _ in range(4)]
>>> found = match_all(spec, models)
>>> first, *others = found(models)
>>> all(torch.equal(first["in.weight"], other["in.weight"]) for other in others)
True
>>> found.between(0, 1) @ found.between(1, 2) == found.between(0, 2)
True
"""

from collections.abc import Mapping
from types import MappingProxyType

from wsl.matching.many.cycle_consistent import CycleConsistent
from wsl.matching.many.merge_many import MergeMany
from wsl.matching.many.problem import match_all
from wsl.matching.many.result import JointMatch, ManyMatcher
from wsl.matching.many.rows import align, check_rows, match_many, mean_of
from wsl.matching.many.to_reference import ToReference

MANY: Mapping[str, type] = MappingProxyType(
    {
        "cycle_consistent": CycleConsistent,
        "merge_many": MergeMany,
        "to_reference": ToReference,
    }
)
"""Every method for many models by its name on the command line; tests go through them."""

__all__ = [
    "MANY",
    "CycleConsistent",
    "JointMatch",
    "ManyMatcher",
    "MergeMany",
    "ToReference",
    "align",
    "check_rows",
    "match_all",
    "match_many",
    "mean_of",
]
