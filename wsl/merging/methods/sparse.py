"""Sparsified task vectors, added or put together by sign election: DARE, DELLA, Breadcrumbs.

    theta = theta_0 + lambda sum_t w_t S(tau_t)                     election = False
    theta = theta_0 + lambda consensus(w_1 S(tau_1), ...)           election = True: as `TIES` does

with S a sparsifier that is of each method's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from wsl.merging.pieces import (
    Consensus,
    Density,
    Entries,
    Members,
    Passes,
    Statistics,
    band,
    check_density,
    consensus,
    from_base,
    keep_random,
    keep_ranked,
    summed,
    weighted,
    within,
)
from wsl.params import Params

Sparsifier = Callable[[Tensor, str, Any], Tensor]
"""Task vectors of a few entries, the tensor's name, and what is known of all its entries."""


@dataclasses.dataclass(frozen=True)
class DARE:
    """Drop and rescale: every entry survives with probability ``density``, and is divided by it.

    Yu et al. (2024), arXiv 2311.03099: E[S(tau)] = tau. The paper drops 90 %.

    Limitations: unbiased, with a variance of (1 / density - 1) tau^2 for each entry.

    >>> import torch
    >>> base, a = {"w": torch.zeros(1000)}, {"w": torch.ones(1000)}
    >>> DARE(density=0.5).solve([a], base=base)["w"].unique().tolist()
    [0.0, 2.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    ordered: ClassVar[bool] = True  # each member's numbers are drawn by its position
    random: ClassVar[bool] = True
    cut: ClassVar[str] = "entries"

    density: Density = 0.1
    scale: float = 1.0
    weights: Sequence[float] | None = None
    election: bool = False
    consensus: Consensus = "sum"
    seed: int = 0

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for a density outside (0, 1]."""
        check_density(self.density, method="DARE")

        def kept(tau: Tensor, name: str, known: None) -> Tensor:
            return keep_random(tau, self.density, seed=self.seed, name=name)

        return from_base(members, base, Passes(_merged(self, kept)))


@dataclasses.dataclass(frozen=True)
class DELLA:
    """As `DARE`, but large entries of each row survive more often: MagPrune.

    Deep et al. (2024), arXiv 2406.11617: the probability goes from ``density`` - ``epsilon`` for
    the smallest entry of a row to ``density`` + ``epsilon`` for the largest, and what survives is
    divided by its own probability, so that E[S(tau)] = tau.

    Limitations: a row is what belongs to one unit; vectors are one row.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    ordered: ClassVar[bool] = True
    random: ClassVar[bool] = True
    cut: ClassVar[str] = "rows"

    density: Density = 0.5
    epsilon: float = 0.15
    scale: float = 1.0
    weights: Sequence[float] | None = None
    election: bool = True
    consensus: Consensus = "mean"
    seed: int = 0

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError unless all probabilities lie in (0, 1]."""
        told = self.density if isinstance(self.density, Sequence) else [self.density]
        for density in told:
            if not 0 < density - abs(self.epsilon) <= density + abs(self.epsilon) <= 1:
                raise ValueError(
                    "DELLA: probabilities density -+ epsilon must lie in (0, 1], got "
                    f"{density} -+ {self.epsilon}"
                )

        def kept(tau: Tensor, name: str, known: None) -> Tensor:
            return keep_ranked(tau, self.density, epsilon=self.epsilon, seed=self.seed, name=name)

        return from_base(members, base, Passes(_merged(self, kept), rows=True))


@dataclasses.dataclass(frozen=True)
class Breadcrumbs:
    """Drop the outliers and the smallest entries of each tensor's task vector.

    Davari and Belilovsky (2024), arXiv 2312.06795: of a tensor with n entries, the ``gamma`` n
    largest are dropped, and the smallest such that ``density`` n remain.

    Limitations: nothing is rescaled, so that the sum is shorter than that of `TaskArithmetic`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"

    density: Density = 0.9
    gamma: float = 0.01
    scale: float = 1.0
    weights: Sequence[float] | None = None
    election: bool = False
    consensus: Consensus = "mean"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for shares that do not fit."""
        check_density(self.density, method="Breadcrumbs")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"Breadcrumbs: gamma must lie in [0, 1), got {self.gamma}")

        def limits(tau: Entries) -> Tensor:
            return band(tau, self.density, gamma=self.gamma)

        def kept(tau: Tensor, name: str, limits: Tensor) -> Tensor:
            return within(tau, limits)

        return from_base(members, base, Passes(_merged(self, kept), limits))


def _merged(method: DARE | DELLA | Breadcrumbs, sparsified: Sparsifier) -> Sparsifier:
    """Sparsified task vectors summed, or put together by their signs."""

    def part(tau: Tensor, name: str, known: Any) -> Tensor:
        kept = sparsified(tau, name, known)
        if not method.election:
            return method.scale * summed(weighted(method.weights, kept))
        return method.scale * consensus(kept, weights=method.weights, how=method.consensus)

    return part
