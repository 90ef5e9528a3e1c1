"""Methods that bring the statistics they need: measured of the members, or known.

    Measured(Fisher(), lambda theta: fisher(model, theta, batches)).solve(members)

So statistics are those of members after alignment, which `merge` does first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from wsl.merging.methods import MergeMethod
from wsl.merging.pieces import Members, Statistics
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class WithStatistics:
    """``method`` with statistics that are known: one of each member, then of the base if needed."""

    needs: ClassVar[frozenset[str]] = frozenset()

    method: MergeMethod
    statistics: Statistics

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", _besides(self.method))

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The method's answer; raises ValueError for statistics that are given as well."""
        if statistics is not None:
            raise ValueError("WithStatistics has its statistics; give none, or the method itself")
        return self.method.solve(members, base=base, statistics=self.statistics)


@dataclasses.dataclass(frozen=True)
class Measured:
    """``method`` with the statistics that ``measure`` takes of each member, and of a base."""

    needs: ClassVar[frozenset[str]] = frozenset()

    method: MergeMethod
    measure: Callable[[Params], Mapping[str, Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", _besides(self.method))

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The method's answer; raises ValueError for statistics that are given as well."""
        if statistics is not None:
            raise ValueError("Measured takes its own statistics; give none, or the method itself")
        told = list(members)
        if "base statistics" in self.method.needs and base is not None:
            told.append(base)
        known = WithStatistics(self.method, [self.measure(dict(theta)) for theta in told])
        return known.solve(members, base=base)


def _besides(method: MergeMethod) -> frozenset[str]:
    """What a method needs besides statistics: the class says none, an instance what is its own."""
    return method.needs - {"statistics", "base statistics"}
