"""The best of all elements of a small group: the truth that other matchers are held against.

    argmax_{g in G} sum_t <W_a^t, g.W_b^t>         or  argmin_{g in G} L((theta_a + g.theta_b) / 2)

Guarantees: the optimum, of equals the first in the order of enumeration. The number of elements is
the product of factorials; what exceeds ``most`` is refused rather than begun.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.matching.result import Match
from wsl.matching.solvers.midpoint import between
from wsl.matching.solvers.weight import aligned_tensors
from wsl.params import Params
from wsl.symmetry import Group, Permutation, PermutationBatch, PermutationSpec, SpecError

_AT_ONCE = 512
"""Elements that are tried in one batch."""


@dataclasses.dataclass(frozen=True)
class ExhaustiveMatching:
    """Try every element.

    most: how many elements are tried at most.
    loss: of a network by its weights, to be smallest half way between a and b; without it the inner
    product is to be largest.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "loss"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    most: int = 100_000
    loss: Callable[[Params], Tensor | float] | None = None

    def __post_init__(self) -> None:
        needs = {"weights"} if self.loss is None else {"loss"}
        object.__setattr__(self, "needs", frozenset(needs))

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The best element; see `wsl.match`.

        The objective is the inner product, or minus the loss half way. Raises `SpecError` if the
        group has more elements than are to be tried.
        """
        start, best, objective = time.perf_counter(), Permutation.identity(spec), -math.inf
        for batch, count in every_element(spec, most=self.most):
            values = self._values(a, b, batch, count=count)
            row = int(values.argmax())
            if float(values[row]) > objective:
                best, objective = batch.element(row), float(values[row])
        return Match(best, objective, 1, True, seconds={"total": time.perf_counter() - start})

    def _values(
        self,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        batch: PermutationBatch,
        *,
        count: int,
    ) -> Tensor:
        moved = batch({name: t.expand(count, *t.shape) for name, t in b.items()})
        if self.loss is None:
            return _inner_products(a, moved)
        rows = ({name: t[row] for name, t in moved.items()} for row in range(count))
        losses = [float(self.loss(between(a, row, 0.5))) for row in rows]
        return -torch.tensor(losses, dtype=torch.float64)


def _inner_products(a: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> Tensor:
    """<a, b_r> of stacked weights, float64 (R,)."""
    count = len(next(iter(rows.values())))
    total = torch.zeros(count, dtype=torch.float64)
    for name in aligned_tensors(a):
        product = a[name].double() * rows[name].to(a[name].device, torch.float64)
        total += product.reshape(count, -1).sum(1).cpu()
    return total


def every_element(
    spec: PermutationSpec, *, most: int = 100_000
) -> Iterator[tuple[PermutationBatch, int]]:
    """All elements of a specification's group, in batches with their numbers of rows.

    Raises `SpecError` if there are more than ``most``.
    """
    _check_order(spec, most)
    each = {group.name: _permutations(spec, group) for group in spec.declared}
    numbers = torch.arange(math.prod(len(index) for index in each.values()))
    for rows in numbers.split(_AT_ONCE):
        indices, rest = {}, rows
        for name, every in each.items():
            indices[name], rest = every[rest % len(every)], rest // len(every)
        yield PermutationBatch(spec, indices), len(rows)


def _check_order(spec: PermutationSpec, most: int) -> None:
    if spec.log10_order > math.log10(most) + 1e-9:
        raise SpecError(
            f"the group has 10^{spec.log10_order:.1f} elements, and at most {most} are tried; use "
            "WeightMatching, or raise most"
        )


def _permutations(spec: PermutationSpec, group: Group) -> Tensor:
    """All permutations of a group (count, n), or all choices of a family (count, n of per, n)."""
    every = torch.tensor(list(itertools.permutations(range(group.size))))
    if group.per is None:
        return every
    choices = itertools.product(range(len(every)), repeat=spec.groups[group.per])
    return every[torch.tensor(list(choices))]
