"""MixUp of checkpoints: convex combinations of two networks, with their targets combined alike.

    theta = lambda theta_1 + (1 - lambda) g.theta_2,     y = lambda y_1 + (1 - lambda) y_2
    lambda ~ Beta(alpha, alpha)

    direct       g = 1
    randomised   g a random element of the group
    aligned      g brings theta_2 near theta_1; the mean of two aligned networks still works

Shamsian et al. (2023, 2024), arXiv 2311.08851, 2402.04081, after Zhang et al. (2018), arXiv
1710.09412. They solve one assignment problem for each layer of each sample. Here each checkpoint is
aligned to one reference, and two checkpoints are aligned to each other through it: `Alignment` does
so once for all, and a step costs one gather. Pairs are aligned less well so than directly. Units
with an odd activation are aligned in sign as well, if their groups are named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wsl.augment.compose import per_row, rows
from wsl.augment.symmetries import RandomPermutation
from wsl.matching import Matcher, align, match_many, mean_of
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecError


class Mixed(NamedTuple):
    """Mixed weights; row r is ``weight[r]`` of itself and the rest of row ``partner[r]``."""

    params: Params
    weight: Tensor
    partner: Tensor

    def target(self, target: Tensor) -> Tensor:
        """Mix targets (batch, ...): numbers or weights; label numbers must be one-hot first."""
        if not target.is_floating_point():
            raise ValueError(
                f"targets of type {target.dtype} cannot be mixed; turn labels into one-hot rows "
                "first"
            )
        return torch.lerp(target[self.partner], target, per_row(self.weight, target))


@dataclasses.dataclass(frozen=True)
class MixUp:
    """Mix every row of a batch with another row of it.

    alpha: of the Beta distribution of lambda; small values mix little, 1 is uniform.
    move: applied to the batch first, ``(params, generator) -> params``: `RandomPermutation` for
    randomised MixUp, `AlignToReference` for aligned MixUp of checkpoints that are new in every
    batch. For those of one population align once: `Alignment`, and then direct MixUp.
    """

    alpha: float = 1.0
    move: Callable[[Mapping[str, Tensor], torch.Generator], Params] | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(
                f"MixUp: alpha is {self.alpha}, but a Beta distribution needs a positive number"
            )

    @classmethod
    def randomised(cls, spec: PermutationSpec, alpha: float = 1.0) -> MixUp:
        """MixUp of randomly permuted networks."""
        return cls(alpha, RandomPermutation(spec))

    @classmethod
    def aligned(
        cls,
        spec: PermutationSpec,
        reference: Mapping[str, Tensor],
        *,
        alpha: float = 1.0,
        matcher: Matcher | None = None,
    ) -> MixUp:
        """MixUp of networks that ``matcher`` brings to ``reference`` in every batch."""
        return cls(alpha, AlignToReference(spec, reference, matcher))

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Mixed:
        """Mix stacked weights (batch, *shape); integer tensors stay, and so does a single row."""
        count = rows(params)
        moved = dict(params) if self.move is None else self.move(params, generator)
        weight = _beta(self.alpha, count, generator)
        partner = _partners(count, generator)
        mixed = {
            name: torch.lerp(t[partner], t, per_row(weight, t)) if t.is_floating_point() else t
            for name, t in moved.items()
        }
        return Mixed(mixed, weight, partner)


@dataclasses.dataclass(frozen=True)
class AlignToReference:
    """An augmentation without chance: every row of a batch is brought to ``reference``."""

    spec: PermutationSpec
    reference: Mapping[str, Tensor]
    matcher: Matcher | None = None

    def __call__(self, params: Mapping[str, Tensor], _: torch.Generator) -> Params:
        """Aligned weights (batch, *shape)."""
        return align(self.spec, params, self.reference, matcher=self.matcher)


ToReference = AlignToReference
"""Its old name, which now is that of a method of `wsl.matching.match_all`."""


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The element that brings each of many checkpoints to one reference, found once.

    ``alignment(params, rows)`` moves the stacked checkpoints that stood at ``rows`` when the
    alignment was made.
    """

    elements: Any

    @classmethod
    def fit(
        cls,
        spec: PermutationSpec,
        checkpoints: Mapping[str, Tensor],
        *,
        odd: Sequence[str] = (),
        importance: Mapping[str, float] | None = None,
        reference: Mapping[str, Tensor] | None = None,
        matcher: Matcher | None = None,
    ) -> Alignment:
        """Match stacked checkpoints (rows, *shape) to a reference.

        odd: groups with an odd activation (sin, tanh), whose units may be negated.
        importance: factors on tensors while they are matched, 1 where none is given; large tensors
        would else decide alone.
        reference: without one it is the mean of all rows after they were aligned to the first.
        matcher: see `wsl.matching.match_many`, whose errors and default hold here.
        Raises `SpecError` for an importance of a tensor that does not exist.
        """
        factors = importance or {}
        _check_importance(spec, factors)
        checkpoints = _times(checkpoints, factors)
        if reference is not None:
            reference = _times(reference, factors)
        else:
            first = {name: tensor[0] for name, tensor in checkpoints.items()}
            found = match_many(spec, first, checkpoints, odd=odd, matcher=matcher)
            reference = mean_of(found(checkpoints), first)
        return cls(match_many(spec, reference, checkpoints, odd=odd, matcher=matcher).element)

    def __call__(self, params: Mapping[str, Tensor], where: Tensor) -> Params:
        """Aligned weights (batch, *shape) of the checkpoints at ``where`` (batch,)."""
        return self.elements[where](params)


def _check_importance(spec: PermutationSpec, factors: Mapping[str, float]) -> None:
    if unknown := set(factors) - set(spec.axes):
        raise SpecError(
            f"importance: no tensor '{min(unknown)}'; the specification has {', '.join(spec.axes)}"
        )


def _times(params: Mapping[str, Tensor], factors: Mapping[str, float]) -> Params:
    return {
        name: tensor * factors[name] if name in factors else tensor
        for name, tensor in params.items()
    }


def _partners(count: int, generator: torch.Generator) -> Tensor:
    """Another row for each, by turning all of them by one random number."""
    shift = torch.randint(1, max(count, 2), (1,), generator=generator)
    return (torch.arange(count) + shift) % count


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Beta(alpha, alpha) as a ratio of gamma variates, which take the generator."""
    shape = torch.full((2, count), alpha, dtype=torch.float64)
    one, other = torch._standard_gamma(shape, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    return torch.where(one + other > 0, one / (one + other), 0.5).float()
