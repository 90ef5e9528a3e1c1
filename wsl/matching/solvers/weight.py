"""Weight matching: align networks by their weights alone, one group of units at a time.

    maximise over g   sum_t <W_a^t, g.W_b^t>

    for one group p, the others fixed:   A_p = sum_t unfold(W_a^t, p) unfold(g.W_b^t, p)^T
                                         g_p <- argmax_P <A_p, P>

Ainsworth, Hayase, Srinivasa (2023), section 3.2, arXiv 2209.04836. The first pass is anchored
instead: groups are solved in the order of how much of their weight is tied to axes that are fixed
or already solved, and the rest of it is ignored. A group that is tied to nothing known is solved
by what no order of the unknown axes can change (`gram`). Coordinate ascent from the identity misses
planted permutations of residual networks that the anchored start finds.

Guarantees: the objective never falls from sweep to sweep and is never below that of the identity;
at convergence no single group, its families included, can be improved where the objective is linear
in it. Where a group acts twice on one tensor (recurrent and tied weights) the objective is
quadratic in it: steps follow the gradient and are taken only if they gain; two families in one
product are treated alike. A row of a stack is matched as it would be alone. Not guaranteed: a
global optimum, which is NP-hard. Scales are not matched.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.matching.blocks import MatchingPlan, plan
from wsl.matching.result import Match
from wsl.matching.solvers.ascent import Ascent
from wsl.matching.solvers.cut import CutWeights, RowWeights
from wsl.matching.solvers.rows import Ascended, collect, portions, take
from wsl.params import BATCH_NORM_BUFFERS
from wsl.symmetry import (
    Permutation,
    PermutationBatch,
    PermutationSpec,
    SignedBatch,
    SpecError,
    check_odd,
)

BUFFERS = BATCH_NORM_BUFFERS
"""Statistics of the data, not weights: they are carried along but do not take part."""


@dataclasses.dataclass(frozen=True)
class WeightMatching:
    """Coordinate ascent by exact assignments.

    max_sweeps: passes over all groups, the anchored one included.
    ignore: tensors whose last name is listed do not take part; integer tensors never do.
    anchored: whether the first pass leaves out what is not yet known; otherwise the ascent starts
    at the identity.
    seed: of the order in which groups are visited. None takes them as the specification lists them,
    and lets the reference alone decide the order of the anchored pass.
    odd: groups with an odd activation (sin, tanh), whose units may be negated as well.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation", "sign"})
    many: ClassVar[bool] = True

    max_sweeps: int = 100
    ignore: tuple[str, ...] = BUFFERS
    anchored: bool = True
    seed: int | None = 0
    odd: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_sweeps < 1:
            raise ValueError(
                f"WeightMatching: max_sweeps is {self.max_sweeps}, but at least one sweep is needed"
            )
        if not self.odd:
            # The class says what it can search; an instance without odd groups searches less.
            object.__setattr__(self, "searches", frozenset({"permutation"}))

    @torch.no_grad()
    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The element that brings ``b`` to ``a``, or one for each row of a stacked ``b``.

        See `wsl.match`, which checks its inputs first. Raises `SpecError` for an odd group that is
        a family, has families, or acts twice on one tensor.
        """
        start = time.perf_counter()
        names = aligned_tensors(a, self.ignore)
        cut = plan(spec, names)
        self._check_odd(spec, cut)
        if spec.validate(b):
            found = self._rows(spec, self._ascended(cut, a, b))
        else:
            row = {name: tensor[None] for name, tensor in b.items()}
            found = self._one(spec, self._ascended(cut, a, row))
        seconds = {**found.seconds, "total": time.perf_counter() - start}
        return dataclasses.replace(found, seconds=seconds)

    def solve_over(self, spec: PermutationSpec, cut: MatchingPlan, weights: RowWeights) -> Match:
        """The same for one checkpoint whose ``weights`` need not lie in memory."""
        start = time.perf_counter()
        (order,) = self._starts(cut, weights)
        done = self._run(Ascent(cut, weights, odd=()), order, torch.arange(1))
        found = self._one(spec, done._replace(value=weights.value()))
        seconds = {**found.seconds, "total": time.perf_counter() - start}
        return dataclasses.replace(found, seconds=seconds)

    def _ascended(
        self,
        cut: MatchingPlan,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
    ) -> Ascended:
        """Match the rows of ``b``: in portions, and those that start in one order at a time."""
        done: list[Ascended] = []
        for rows in portions(b):
            weights = CutWeights(cut, a, take(b, rows))
            starts = self._starts(cut, weights)
            for order, numbers in starts.items():
                if len(starts) > 1:
                    weights = CutWeights(cut, a, take(b, rows[numbers]))
                found = self._run(Ascent(cut, weights, odd=self.odd or ()), order, rows[numbers])
                done.append(found._replace(value=weights.value()))
        return collect(done)

    def _starts(self, cut: MatchingPlan, weights: RowWeights) -> dict[tuple[str, ...], list[int]]:
        """The rows of each order of the anchored pass."""
        if self.seed is None or not self.anchored:
            order = cut.order([size**2 for size in weights.size])
            return {order: list(range(weights.count))}
        starts: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        for row in range(weights.count):
            mass = [float(of_rows[row]) for of_rows in weights.mass]
            starts[cut.order(mass)].append(row)
        return starts

    def _run(self, ascent: Ascent, order: tuple[str, ...], rows: Tensor) -> Ascended:
        """Sweep until no row improves any more or the limit is reached."""
        sweeps, gains = self._swept(ascent, order)
        return Ascended(
            rows,
            ascent.found.indices,
            ascent.found.signs,
            torch.zeros(ascent.count, dtype=torch.float64),
            sweeps,
            ~ascent.active,
            gains,
            ascent.clock.seconds,
        )

    def _swept(self, ascent: Ascent, order: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """How many sweeps each row took, (N,), and what each of them gained, (N, sweeps)."""
        sweeps, nothing = torch.zeros(ascent.count, dtype=torch.long), ascent.gained.clone()
        gains: list[Tensor] = []
        if self.anchored:
            ascent.anchor(order)
            gains.append(nothing)
            sweeps += 1
        visits = self._visits(list(ascent.plan.blocks))
        while bool(ascent.active.any()) and len(gains) < self.max_sweeps:
            sweeps += ascent.active
            ascent.sweep(next(visits))
            gains.append(ascent.gained)
        return sweeps, torch.stack(gains, 1) if gains else nothing[:, None][:, :0]

    def _visits(self, names: list[str]) -> Iterator[list[str]]:
        """The order of each sweep, the same for every row."""
        rng = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        while True:
            if rng is None:
                yield names
            else:
                yield [names[k] for k in torch.randperm(len(names), generator=rng).tolist()]

    def _rows(self, spec: PermutationSpec, done: Ascended) -> Match:
        permutation = PermutationBatch(spec, {name: done.indices[name] for name in spec.groups})
        return Match(
            permutation,
            done.value,
            done.sweeps,
            done.converged,
            element=None if self.odd is None else SignedBatch(permutation, done.signs),
            trace=done.trace(done.value),
            seconds=done.seconds,
        )

    def _one(self, spec: PermutationSpec, done: Ascended) -> Match:
        return Match(
            Permutation(spec, {name: done.indices[name][0] for name in spec.groups}),
            float(done.value),
            int(done.sweeps),
            bool(done.converged),
            element=self._rows(spec, done).element if self.odd else None,
            trace=done.trace(done.value)[0],
            seconds=done.seconds,
        )

    def _check_odd(self, spec: PermutationSpec, cut: MatchingPlan) -> None:
        check_odd(spec, self.odd or ())
        for name in self.odd or ():
            if cut.blocks[name].families or not cut.blocks[name].linear:
                raise SpecError(
                    f"group '{name}' has families or acts twice on one tensor, where signs are "
                    "not matched; leave out odd"
                )


def aligned_tensors(
    params: Mapping[str, Tensor], ignore: Iterable[str] = BUFFERS
) -> tuple[str, ...]:
    """Names of the floating tensors whose last name is not in ``ignore``: what is matched."""
    return tuple(
        name
        for name, t in params.items()
        if t.is_floating_point() and name.rpartition(".")[2] not in ignore
    )
