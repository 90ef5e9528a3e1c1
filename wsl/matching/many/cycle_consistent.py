"""CycleConsistent: all permutations at once by Frank-Wolfe, each model to a common universe.

    maximise   f(M) = sum_{i<j} <M_i.theta_i, M_j.theta_j>       over doubly stochastic M
    D_i = argmax_D <df/dM_i, D>  (assignments),   M <- (1-t) M + t D,   t = argmax_{[0, 1]} f

C2M3: Crisostomi et al. (2024), Algorithm 1, arXiv 2405.17897. Three things are done differently.
The gradient of a model needs only the sum of all, so that an iteration is O(N) and not O(N^2).
Along a step f is a polynomial, a quartic for weights of layers, whose maximum is found exactly from
its coefficients without evaluating f (see `relaxed`). And the start is the first model as it is,
with every other under the mean of all permutations: it favours no order of units, as the identity
would, and ends as high. The soft permutations are rounded by a last assignment, and then polished
by `MergeMany`, which ascends the same objective.

Guarantees: elements compose to the identity round any cycle; the relaxed objective never falls; the
result is not below that of the ``rival``, nor below the models as ``start`` aligns them. Models
that are permuted beforehand are brought together alike, up to ties. Not guaranteed: a global
optimum. Two families in one product share one gradient, which is then not exact.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from wsl.matching.blocks import GroupBlock, plan
from wsl.matching.many.merge_many import MergeMany
from wsl.matching.many.relaxed import Gradient, Relaxed, Vertex
from wsl.matching.many.result import (
    JointMatch,
    ManyMatcher,
    composed,
    moved_by,
    pair_objective,
)
from wsl.matching.solvers import Clock, aligned_tensors, assign, like_of, of_chosen, paired
from wsl.params import stack
from wsl.symmetry import Permutation, PermutationBatch, PermutationSpec

_TIE = 1e-5
"""The share of the largest gradient by which a vertex must gain more than staying."""


@dataclasses.dataclass(frozen=True)
class CycleConsistent:
    """Frank-Wolfe on N soft permutations, rounded and polished.

    max_iterations: steps of Frank-Wolfe.
    tolerance, patience: it stops after ``patience`` steps in a row that each gain less than this
    share of the objective.
    start: a method whose permutations are the first iterate, in place of the soft one.
    polish: ascend model by model after rounding.
    rival: a method whose result is taken where its objective is higher; None saves its time.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    joint: ClassVar[bool] = True

    max_iterations: int = 100
    tolerance: float = 1e-6
    patience: int = 3
    start: ManyMatcher | None = None
    polish: bool = True
    rival: ManyMatcher | None = dataclasses.field(default_factory=MergeMany)

    def __post_init__(self) -> None:
        if self.max_iterations < 0 or self.patience < 1:
            raise ValueError(
                f"CycleConsistent: max_iterations is {self.max_iterations} and patience "
                f"{self.patience}, but at least 0 and 1 are needed"
            )

    def solve(self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], /) -> JointMatch:
        """One permutation for each model; see `wsl.matching.match_all`."""
        began = time.perf_counter()
        first: Sequence[Permutation] = _still(spec, len(models))
        if self.start is not None:
            first = self.start.solve(spec, models).permutations
        found = self._found(spec, moved_by(first, models))
        g = tuple(composed(found.permutations, first))
        found = dataclasses.replace(found, permutations=g, elements=g)
        found = self._or_rival(found, spec, models)
        seconds = {**found.seconds, "total": time.perf_counter() - began}
        return dataclasses.replace(found, seconds=seconds)

    def _found(self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]]) -> JointMatch:
        """Walk, round and polish, from models as they start."""
        walk = _Walk(spec, models, soft=self.start is None)
        converged = self._walked(walk)
        g = self._finished(spec, models, walk.rounded())
        return JointMatch(
            tuple(g),
            pair_objective(moved_by(g, models), aligned_tensors(models[0])),
            len(walk.trace) - 1,
            converged,
            trace=torch.tensor(walk.trace, dtype=torch.float64),
            seconds=walk.clock.seconds,
        )

    def _or_rival(
        self, found: JointMatch, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]]
    ) -> JointMatch:
        """The result with the rival's permutations where those are better."""
        if self.rival is None:
            return found
        other = self.rival.solve(spec, models)
        if other.objective > found.objective:
            g = other.permutations
            return dataclasses.replace(found, permutations=g, elements=g, objective=other.objective)
        return found

    def _walked(self, walk: _Walk) -> bool:
        """Step until steps gain nothing for a while; False if the limit came first."""
        idle = 0
        for _ in range(self.max_iterations):
            gain = walk.step()
            idle = idle + 1 if gain <= self.tolerance * abs(walk.trace[-1]) else 0
            if idle == self.patience or not gain:
                return True
        return False

    def _finished(
        self,
        spec: PermutationSpec,
        models: Sequence[Mapping[str, Tensor]],
        rounded: Sequence[Permutation],
    ) -> list[Permutation]:
        """The rounded permutations, polished; none at all where they are worse than that."""
        names = aligned_tensors(models[0])
        found, moved = list(rounded), moved_by(rounded, models)
        if self.polish:
            steps = MergeMany(start=None).solve(spec, moved).permutations
            found, moved = composed(steps, found), moved_by(steps, moved)
        gained = pair_objective(moved, names) - pair_objective(models, names)
        return found if gained > 0 else _still(spec, len(models))


def _still(spec: PermutationSpec, count: int) -> list[Permutation]:
    return [Permutation.identity(spec)] * count


class _Walk:
    """The relaxed problem, its objective after each step, and where the time went."""

    def __init__(
        self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], *, soft: bool
    ) -> None:
        names = aligned_tensors(models[0])
        self.spec, self.plan, self.count = spec, plan(spec, names), len(models)
        like = like_of([models[0][name] for name in names])
        together = stack([{n: m[n].to(like) for n in names} for m in models])
        self.relaxed = Relaxed(self.plan, together, like)
        if soft:
            self.relaxed.soften()
        self.trace = [self.relaxed.value]
        self.clock = Clock()

    def step(self) -> float:
        """Go to the best point towards the vertices of the gradient; what that gains."""
        with self.clock.timed("products"):
            gradients = self.relaxed.gradients()
        with self.clock.timed("assignment"):
            vertices = self._vertices(self._held(gradients))
        with self.clock.timed("products"):
            t, value = _highest(self.relaxed.along(vertices))
            gain = max(0.0, value - self.trace[-1])
            if gain:
                self.relaxed.step(vertices, t)
        self.trace.append(self.trace[-1] + gain)
        return gain

    def rounded(self) -> list[Permutation]:
        """The permutations of largest total mass."""
        indices = {}
        for vertex in self._vertices(self.relaxed.mass).values():
            indices.update({name: index.cpu() for name, index in vertex.items()})
        batch = PermutationBatch(self.spec, {name: indices[name] for name in self.spec.groups})
        return [batch.element(i) for i in range(self.count)]

    def _held(self, gradients: Mapping[str, Gradient]) -> dict[str, Gradient]:
        """Gradients in which, of vertices that gain the same, the nearest one is ahead.

        While all other models are soft the first gains the same everywhere, and should stay.
        """
        held: dict[str, Gradient] = {}
        for name, own in gradients.items():
            reach = {key: _TIE * matrix.abs().amax() for key, matrix in own.items()}
            held[name] = {k: m + reach[k] * self.relaxed.mass[name][k] for k, m in own.items()}
        return held

    def _vertices(self, scores: Mapping[str, Gradient]) -> dict[str, Vertex]:
        return {
            name: best_vertex(block, scores[name], self.count)
            for name, block in self.plan.blocks.items()
        }


def best_vertex(block: GroupBlock, scores: Gradient, count: int) -> dict[str, Tensor]:
    """The permutations of a block with the largest total score, its families by exact pairing."""
    if not scores:
        n = block.size
        every = torch.arange(n).expand(count, n)
        inner = {name: torch.arange(k).expand(count, n, k) for name, k in block.families}
        return {block.group: every, **inner}
    total, inner = paired(block, scores)
    group = assign(total)
    return {block.group: group, **of_chosen(inner, group)}


def _highest(value: Polynomial) -> tuple[float, float]:
    """Where in [0, 1] the polynomial is largest, and its value there."""
    roots = value.deriv().roots()
    inside = [float(r.real) for r in roots if abs(r.imag) < 1e-9 and 0 < r.real < 1]
    return max(((t, float(value(t))) for t in [0.0, 1.0, *inside]), key=lambda pair: pair[1])
