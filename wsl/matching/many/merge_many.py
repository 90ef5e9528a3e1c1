"""MergeMany: each model in turn is matched to the mean of all others, until nothing is gained.

    g_i <- argmax_g <sum_{j != i} g_j.theta_j, g.theta_i>       i in random order

Ainsworth et al. (2023), Algorithm 3, arXiv 2209.04836. It is block-coordinate ascent on the sum of
inner products over all pairs, and hence on minus the sum of squared distances. The sum of all
models is kept as it runs, so that a round costs N matchings and no pass over pairs.

Guarantees: the objective never falls, since a step that does not gain is not taken; and it is never
below that of the start. Not guaranteed: a global optimum. It starts from `ToReference`; the mean of
models that are not yet aligned, from which it starts as published, says less.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.matching.many.result import (
    JointMatch,
    ManyMatcher,
    composed,
    moved_by,
    pair_objective,
)
from wsl.matching.many.to_reference import ToReference
from wsl.matching.problem import solve
from wsl.matching.result import Matcher
from wsl.matching.solvers import WeightMatching, aligned_tensors, inner_product
from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec, SpecError

_RELATIVE = 1e-7
"""Gains below this share of the inner product are rounding."""


@dataclasses.dataclass(frozen=True)
class MergeMany:
    """Coordinate ascent over models.

    seed: of the order of the models, drawn anew each round.
    max_rounds: passes over all models.
    matcher: how one model is matched to the mean; it must search permutations alone.
    start: a method that aligns the models first, `ToReference` by default; None starts from them as
    they are, as published.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    joint: ClassVar[bool] = True

    seed: int = 0
    max_rounds: int = 100
    matcher: Matcher = dataclasses.field(default_factory=WeightMatching)
    start: ManyMatcher | None = dataclasses.field(default_factory=ToReference)

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError(
                f"MergeMany: max_rounds is {self.max_rounds}, but at least one is needed"
            )
        if self.matcher.searches != {"permutation"}:
            raise SpecError(
                f"MergeMany: {type(self.matcher).__name__} searches "
                f"{', '.join(sorted(self.matcher.searches))}; only permutations are composed here"
            )
        object.__setattr__(self, "needs", self.matcher.needs)

    def solve(self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], /) -> JointMatch:
        """One permutation for each model; see `wsl.matching.match_all`."""
        start = time.perf_counter()
        ascent = _Ascent(spec, models, matcher=self.matcher)
        if self.start is not None:
            ascent.move(self.start.solve(spec, models).permutations)
        trace, converged = self._ascended(ascent)
        return JointMatch(
            tuple(ascent.permutations),
            trace[-1],
            len(trace),
            converged,
            trace=torch.tensor(trace, dtype=torch.float64),
            seconds={"total": time.perf_counter() - start},
        )

    def _ascended(self, ascent: _Ascent) -> tuple[list[float], bool]:
        """The objective after each round, and whether the last one moved nothing."""
        rng, trace, moved = torch.Generator().manual_seed(self.seed), [], True
        while moved and len(trace) < self.max_rounds:
            order = torch.randperm(len(ascent.moved), generator=rng).tolist()
            moved = sum(ascent.improve(i) for i in order) > 0
            trace.append(pair_objective(ascent.moved, ascent.names))
        return trace, not moved


class _Ascent:
    """Models as moved so far, the permutations that moved them, and the sum of all."""

    def __init__(
        self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], *, matcher: Matcher
    ) -> None:
        self.spec, self.matcher, self.names = spec, matcher, aligned_tensors(models[0])
        self.moved: list[Params] = [dict(model) for model in models]
        self.permutations = [Permutation.identity(spec)] * len(models)
        self.sum = self._summed()

    def move(self, permutations: Sequence[Permutation]) -> None:
        """Move every model by its permutation."""
        self.moved = moved_by(permutations, self.moved)
        self.permutations = composed(permutations, self.permutations)
        self.sum = self._summed()

    def improve(self, i: int) -> bool:
        """Match model ``i`` to the mean of the others; whether that brought it closer."""
        mine, others = self.moved[i], self._mean_without(i)
        found = solve(self.spec, others, mine, matcher=self.matcher)
        new = found(mine)
        before, after = (inner_product(others, theta, self.names) for theta in (mine, new))
        if after <= before + _RELATIVE * abs(before):
            return False
        assert isinstance(found.permutation, Permutation)
        self.permutations[i] = found.permutation @ self.permutations[i]
        self._replace(i, new)
        return True

    def _replace(self, i: int, new: Params) -> None:
        """Put a moved model in the place of number ``i``, and keep the sum."""
        for name, total in self.sum.items():
            total += new[name].to(total) - self.moved[i][name].to(total)
        self.moved[i] = new

    def _mean_without(self, i: int) -> Params:
        """The mean of all models but number ``i``, which lends it what is not aligned."""
        others = dict(self.moved[i])
        for name, total in self.sum.items():
            rest = total - others[name].to(total)
            others[name] = rest.div_(len(self.moved) - 1).float()
        return others

    def _summed(self) -> dict[str, Tensor]:
        """In float64, so that a sum that is updated many times does not drift."""
        first = self.moved[0]
        return {
            name: sum(
                (m[name].to(first[name].device, torch.float64) for m in self.moved[1:]),
                first[name].double(),
            )
            for name in self.names
        }
