"""What a method of merging is: hyper-parameters, what it needs, and one function on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from torch import Tensor

from wsl.merging.pieces import Members, Statistics
from wsl.params import Params

NEEDS = frozenset({"base", "statistics", "base statistics", "validation", "training"})
"""Everything that a method can need besides its members; see `MergeMethod`."""


class MergeMethod(Protocol):
    """A frozen dataclass of hyper-parameters; members have been aligned by then, if they are to be.

    needs: what it needs besides the members: "base" (the weights that all of them started from),
    "statistics" (one mapping for each member, of what the method's documentation says), "base
    statistics" (one more at the end, of the base), "validation" (its field ``evaluate`` scores
    candidates), "training" (its field ``loss`` is minimised).

    A class may also say, where the answer is not the usual one:
    ordered: the answer depends on the order of the members (False).
    random: it draws numbers, from its field ``seed`` (False).
    takes: the only number of members that it merges (None: any).
    measures: the function of `wsl.merging.statistics` whose result it reads, if it reads any.
    whole: it looks at all tensors at once, so that they cannot be merged one by one (False).
    cut: "entries" if it treats every entry for itself, "rows" if every row of what has two axes or
    more, so that tensors can be merged in parts; "passes" if it reads tensors itself, part by part,
    so that they may lie in files (None: it is given whole tensors).
    doubles: how many float64 numbers it holds for each entry of a tensor, besides all members in
    float32, if it reads tensors that it needs as a whole (0: it needs none).
    """

    needs: ClassVar[frozenset[str]]

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """One network of at least one member; raises ValueError for members that differ."""
        ...
