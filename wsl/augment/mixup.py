"""MixUp of checkpoints: convex combinations of two networks, with their targets combined alike.

    theta = lambda theta_1 + (1 - lambda) g.theta_2,     y = lambda y_1 + (1 - lambda) y_2,
        lambda ~ Beta(alpha, alpha)

    direct       g = 1
    randomised   g a random element of the group
    aligned      g brings theta_2 near theta_1: the mean of two aligned networks is a network that
                 works

Shamsian et al. (2023, 2024), arXiv 2311.08851, 2402.04081, after Zhang et al. (2018), arXiv
1710.09412. They solve one assignment problem for each layer of each sample; here each checkpoint is
aligned once, to one reference (`Alignment`), and two checkpoints are aligned to each other through
it: a step costs one gather. Pairs are aligned less well so than directly. Units with an odd
activation are aligned in sign as well, if their groups are named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.augment.compose import per_row, rows
from wsl.augment.symmetries import RandomPermutation
from wsl.matching import match_many
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SignedBatch, SpecError


class Mixed(NamedTuple):
    """Mixed weights, and how: row r is ``weight[r]`` of itself and the rest of row
    ``partner[r]``.
    """

    params: Params
    weight: Tensor
    partner: Tensor

    def target(self, target: Tensor) -> Tensor:
        """Mix targets (batch, ...): numbers, one-hot labels or weights; label numbers must be
        one-hot first.
        """
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
    randomised MixUp. Aligned MixUp is the direct one on weights that an `Alignment` has moved.
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

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Mixed:
        """Mix stacked weights (batch, *shape); integer tensors stay. One row is mixed with
        itself.
        """
        count = rows(params)
        moved = dict(params) if self.move is None else self.move(params, generator)
        weight = _beta(self.alpha, count, generator)
        partner = (
            torch.arange(count) + torch.randint(1, max(count, 2), (1,), generator=generator)
        ) % count
        mixed = {
            name: torch.lerp(t[partner], t, per_row(weight, t)) if t.is_floating_point() else t
            for name, t in moved.items()
        }
        return Mixed(mixed, weight, partner)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The element that brings each of many checkpoints to one reference, found once.

    ``alignment(params, rows)`` moves the stacked checkpoints that stood at ``rows`` when the
    alignment was made.
    """

    elements: SignedBatch

    @classmethod
    def fit(
        cls,
        spec: PermutationSpec,
        checkpoints: Mapping[str, Tensor],
        *,
        odd: Sequence[str] = (),
        importance: Mapping[str, float] | None = None,
        reference: Mapping[str, Tensor] | None = None,
    ) -> Alignment:
        """Match stacked checkpoints (rows, *shape) to a reference; errors as in
        `wsl.matching.match_many`.

        odd: groups with an odd activation (sin, tanh), whose units may be negated.
        importance: factors on tensors while they are matched, 1 where none is given; large tensors
        would else decide alone. Without a reference it is the mean of all rows after they were
        aligned to the first one. Raises `SpecError` for an importance of a tensor that does not
        exist.
        """
        if unknown := set(importance or {}) - set(spec.axes):
            raise SpecError(
                f"importance: no tensor '{min(unknown)}'; the specification has "
                f"{', '.join(spec.axes)}"
            )
        checkpoints = _times(checkpoints, importance or {})
        if reference is not None:
            reference = _times(reference, importance or {})
        else:
            first = {name: tensor[0] for name, tensor in checkpoints.items()}
            aligned = match_many(spec, first, checkpoints, odd=odd)(checkpoints)
            reference = {
                name: t.mean(0) if t.is_floating_point() else t[0] for name, t in aligned.items()
            }
        return cls(match_many(spec, reference, checkpoints, odd=odd).element)

    def __call__(self, params: Mapping[str, Tensor], where: Tensor) -> Params:
        """Aligned weights (batch, *shape) of the checkpoints at ``where`` (batch,)."""
        return self.elements[where](params)


def _times(params: Mapping[str, Tensor], factors: Mapping[str, float]) -> Params:
    return {
        name: tensor * factors[name] if name in factors else tensor
        for name, tensor in params.items()
    }


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Beta(alpha, alpha) as a ratio of gamma variates, which take the generator."""
    shape = torch.full((2, count), alpha, dtype=torch.float64)
    one, other = torch._standard_gamma(shape, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    return torch.where(one + other > 0, one / (one + other), 0.5).float()
