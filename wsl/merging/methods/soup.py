"""Soups that look at a validation score: the greedy soup, and interpolation backwards.

    greedy soup    in the order of their own scores, each member is added to the mean if the score
                   of the mean does not fall
    BCWI           theta = alpha theta_old + (1 - alpha) theta_new with the largest alpha whose
                   score is not below that of theta_new

Wortsman et al. (2022), arXiv 2203.05482, algorithm 1; the restricted selection of DiWA (Rame et al.
2022, arXiv 2205.09739) is the same. Backward-compatible interpolation: Schumann et al. (2024),
arXiv 2301.10546; several new members are averaged first (Soup-BCWI).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from wsl.connectivity import lerp
from wsl.merging.methods.average import average
from wsl.merging.pieces import Members, Statistics
from wsl.params import Params

Score = Callable[[Params], float]
"""A number of a network on validation data; more is better."""


@dataclasses.dataclass(frozen=True)
class GreedySoup:
    """The mean of the members that do not lower the validation score of those before them.

    Limitations: the score chooses, so it is no estimate any more; measure the result on other data.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation"})
    whole: ClassVar[bool] = True

    evaluate: Score

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The soup; members of equal score are tried in the order in which they are given."""
        return average([members[i] for i in self.chosen(members)])

    def chosen(self, members: Members) -> list[int]:
        """The numbers of the members in the soup, in the order in which they were added."""
        average(members)  # raises for members that differ
        scores = [float(self.evaluate(dict(member))) for member in members]
        order = sorted(range(len(members)), key=lambda i: -scores[i])
        kept, best = order[:1], scores[order[0]]
        for i in order[1:]:
            score = float(self.evaluate(average([members[j] for j in [*kept, i]])))
            if score >= best:
                kept, best = [*kept, i], score
        return kept


@dataclasses.dataclass(frozen=True)
class BCWI:
    """The first member is the old model, the others are new; the alphas of ``grid`` are tried.

    Limitations: on a grid; flips of answers are counted by the caller, not here.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation"})
    ordered: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    evaluate: Score
    grid: Sequence[float] = tuple(i / 20 for i in range(21))

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The interpolation; raises ValueError unless there is an old and a new member."""
        if len(members) < 2:
            raise ValueError("BCWI: give the old model first and at least one new one")
        new = average(members[1:])
        target = float(self.evaluate(new))
        for alpha in sorted(self.grid, reverse=True):
            candidate = lerp(new, members[0], alpha)
            if alpha == 0 or float(self.evaluate(candidate)) >= target:
                return candidate
        return new
