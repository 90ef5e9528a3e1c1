"""Hyper-parameters of a merge method by a search over grids, one field after the other.

    field_k <- argmax over its grid of score(method(members)),   k = 1, ..., K

Coordinate search, as papers of the field tune lambda and density on validation data. The score
that chose is no estimate any more: measure the result on other data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from wsl.base import did_you_mean
from wsl.merging.methods import MergeMethod
from wsl.merging.pieces import Members, Statistics
from wsl.params import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """The best method with its network, its score, and every trial in order."""

    method: MergeMethod
    params: Params
    score: float
    trials: Sequence[tuple[Mapping[str, Any], float]]


def tune(
    method: MergeMethod,
    members: Members,
    evaluate: Callable[[Params], float],
    *,
    grid: Mapping[str, Sequence[Any]],
    base: Mapping[str, Tensor] | None = None,
    statistics: Statistics | None = None,
) -> Tuned:
    """Try each value of each field of ``grid``, the others at the best so far; more is better.

    Of equal scores the first wins. Raises ValueError for a field that the method lacks, and for
    an empty grid.
    """
    fields = [field.name for field in dataclasses.fields(method)]  # type: ignore[arg-type]
    for name, values in grid.items():
        if name not in fields:
            raise ValueError(
                f"{type(method).__name__} has no field '{name}'{did_you_mean(name, fields)}"
            )
        if not len(values):
            raise ValueError(f"the grid of '{name}' is empty")
    found = _Search(members, evaluate, base=base, statistics=statistics)
    found.try_(method)
    for name, values in grid.items():
        for value in values:
            # the best so far, not the last tried
            found.try_(dataclasses.replace(found.best[0], **{name: value}))
    chosen, params, score = found.best
    return Tuned(chosen, params, score, found.trials)


class _Search:
    def __init__(
        self,
        members: Members,
        evaluate: Callable[[Params], float],
        **given: Any,
    ) -> None:
        self.given = given
        self.members, self.evaluate = members, evaluate
        self.trials: list[tuple[dict[str, Any], float]] = []
        self.best: tuple[Any, Params, float] = (None, {}, float("-inf"))

    def try_(self, method: Any) -> None:
        told = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
        if any(told == seen for seen, _ in self.trials):
            return
        params = method.solve(self.members, **self.given)
        score = float(self.evaluate(params))
        self.trials.append((told, score))
        if score > self.best[2] or self.best[0] is None:
            self.best = (method, params, score)
