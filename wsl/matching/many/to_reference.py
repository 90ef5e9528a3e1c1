"""Every model brought to one of them, which stays as it is.

    g_i = argmax_g <theta_ref, g.theta_i>,    g_ref = 1

The models do not see each other: what two of them share and the reference lacks is not aligned.
With a matcher that takes a stack, such as `WeightMatching`, all go in one call, whose products are
batched. Ainsworth et al. (2023), arXiv 2209.04836.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from wsl.matching.many.result import JointMatch, moved_by, pair_objective
from wsl.matching.problem import solve
from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import WeightMatching, aligned_tensors
from wsl.params import Params, stack
from wsl.symmetry import Permutation, PermutationBatch, PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True)
class ToReference:
    """Match each model to number ``reference``, by `WeightMatching` unless told."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    joint: ClassVar[bool] = True

    reference: int = 0
    matcher: Matcher | None = None

    def __post_init__(self) -> None:
        if self.matcher is not None:
            object.__setattr__(self, "needs", self.matcher.needs)

    def solve(self, spec: PermutationSpec, models: Sequence[Mapping[str, Tensor]], /) -> JointMatch:
        """One element for each model, the identity for the reference; see `wsl.matching.match_all`.

        Raises `SpecError` for a reference that is not there.
        """
        start = time.perf_counter()
        self._check(len(models))
        others = [theta for i, theta in enumerate(models) if i != self.reference]
        moves = self._found(spec, models[self.reference], others)
        identity = Permutation.identity(spec)
        moves.insert(self.reference, _Move(identity, identity, True))
        elements = tuple(move.element for move in moves)
        return JointMatch(
            tuple(move.permutation for move in moves),
            pair_objective(moved_by(elements, models), aligned_tensors(models[0])),
            1,
            all(move.converged for move in moves),
            elements=elements,
            seconds={"total": time.perf_counter() - start},
        )

    def _check(self, count: int) -> None:
        if not 0 <= self.reference < count:
            raise SpecError(
                f"ToReference: reference is {self.reference}, but there are {count} models, "
                "counted from 0"
            )

    def _found(
        self,
        spec: PermutationSpec,
        reference: Mapping[str, Tensor],
        others: Sequence[Mapping[str, Tensor]],
    ) -> list[_Move]:
        matcher = self.matcher or WeightMatching()
        alike = {tuple((t.dtype, t.device) for t in other.values()) for other in others}
        if not matcher.many or len(alike) > 1:
            return [_of_one(solve(spec, reference, other, matcher=matcher)) for other in others]
        return _of_rows(solve(spec, reference, stack(others), matcher=matcher))


class _Move(NamedTuple):
    """What brings one model to the reference."""

    permutation: Permutation
    element: Any
    converged: bool


def _of_one(match: Match) -> _Move:
    """A signed element acts through its match."""
    assert isinstance(match.permutation, Permutation)
    plain = match.element is match.permutation
    return _Move(match.permutation, match.permutation if plain else match, bool(match.converged))


def _of_rows(match: Match) -> list[_Move]:
    assert isinstance(match.permutation, PermutationBatch)
    plain = match.element is match.permutation
    found = []
    for row, converged in enumerate(torch.as_tensor(match.converged).tolist()):
        permutation = match.permutation.element(row)
        element = permutation if plain else _Row(match.element[row : row + 1])
        found.append(_Move(permutation, element, converged))
    return found


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row of an element of many rows, acting on one checkpoint."""

    element: Callable[[Mapping[str, Tensor]], Params]

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        moved = self.element({name: tensor[None] for name, tensor in params.items()})
        return {name: tensor[0] for name, tensor in moved.items()}
