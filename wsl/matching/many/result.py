"""What a method for many models is and what it returns: one element for each, to one universe.

    g_i.theta_i  is close to  g_j.theta_j  for all i, j        g_ij = g_i^-1 g_j brings j to i

Since every model goes to the same universe, elements compose to the identity round any cycle:
g_ij g_jk g_ki = 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec


@dataclasses.dataclass(frozen=True, eq=False)
class JointMatch:
    """Elements that bring N models together: ``found(models)`` are close to each other.

    permutations: the permutation of each model to the common universe.
    objective: sum over pairs i < j of <g_i.theta_i, g_j.theta_j>, over the aligned tensors, summed
    in float64.
    rounds: how many passes over all models were made.
    converged: the method's own criterion was met; False means that the limit of rounds came first.
    elements: what acts on each model, where that is more than its permutation.
    trace: the value after each round, float64; of `CycleConsistent` that of the relaxed problem,
    which ends before its solution is rounded to permutations.
    seconds: what it took: ``total``, and parts of it by name.
    """

    permutations: tuple[Permutation, ...]
    objective: float
    rounds: int
    converged: bool
    elements: tuple[Any, ...] = dataclasses.field(default=(), repr=False)
    trace: Tensor | None = dataclasses.field(default=None, repr=False)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.elements:
            object.__setattr__(self, "elements", self.permutations)

    def __len__(self) -> int:
        return len(self.permutations)

    def __call__(self, models: Sequence[Mapping[str, Tensor]]) -> list[Params]:
        """Every model moved to the universe; there must be as many as were matched."""
        if len(models) != len(self):
            raise ValueError(
                f"{len(self)} models were matched, but {len(models)} are given; each is moved by "
                "its own element"
            )
        return moved_by(self.elements, models)

    def beside(self, models: Sequence[Mapping[str, Tensor]], i: int = 0) -> list[Params]:
        """Every model brought to model ``i``, which stays as it is.

        Raises ValueError where more than permutations would have to be undone.
        """
        if self.elements == self.permutations:
            others = [self.between(i, j)(model) for j, model in enumerate(models)]
            return [dict(models[j]) if j == i else other for j, other in enumerate(others)]
        if self.permutations[i] != Permutation.identity(self.permutations[i].spec):
            raise ValueError(f"model {i} was moved by more than a permutation; call the result")
        return self(models)

    def between(self, i: int, j: int) -> Permutation:
        """The permutation that brings model ``j`` to model ``i``."""
        return ~self.permutations[i] @ self.permutations[j]


class ManyMatcher(Protocol):
    """A method that aligns N models to each other; inputs have been checked by `match_all`.

    needs: as of a `Matcher`: of "weights", "inputs" and "loss".
    joint: True, which tells it from a `Matcher` of two.
    """

    needs: ClassVar[frozenset[str]]
    joint: ClassVar[bool]

    def solve(self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], /) -> JointMatch:
        """One element for each model."""
        ...


def moved_by(
    elements: Sequence[Callable[[Mapping[str, Tensor]], Params]],
    models: Sequence[Mapping[str, Tensor]],
) -> list[Params]:
    """Every model moved by its own element."""
    return [g(theta) for g, theta in zip(elements, models, strict=True)]


def composed(after: Sequence[Permutation], before: Sequence[Permutation]) -> list[Permutation]:
    """The products g h of every model's two permutations, of which h moves first."""
    return [g @ h for g, h in zip(after, before, strict=True)]


def pair_objective(models: Sequence[Mapping[str, Tensor]], names: Iterable[str]) -> float:
    """sum_{i<j} <theta_i, theta_j> = (||sum theta_i||^2 - sum ||theta_i||^2) / 2, in float64."""
    total = 0.0
    for name in names:
        place = models[0][name].device
        each = [model[name].to(place, torch.float64) for model in models]
        together = sum(each[1:], each[0].clone())
        total += float(together.square().sum()) - sum(float(t.square().sum()) for t in each)
    return total / 2
