"""What a matcher is and what it returns: the permutation with its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from wsl.symmetry import Permutation, PermutationSpec


@dataclasses.dataclass(frozen=True)
class Match:
    """A permutation that brings b to a: ``permutation(b)`` is close to a.

    objective: sum over the matched tensors of <W_a, permutation.W_b>, in float64.
    sweeps: passes over all groups that were made.
    converged: no group alone can be improved any more; False means the limit of sweeps came first.
    """

    permutation: Permutation
    objective: float
    sweeps: int
    converged: bool


class Matcher(Protocol):
    """A method of matching, with its settings; inputs have been checked by `match`."""

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """Find a permutation that brings ``b`` to ``a``."""
        ...
