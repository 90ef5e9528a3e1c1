"""TIES: trim task vectors, elect a sign for each entry, average those that agree.

    trim     keep the share ``density`` of entries of largest modulus in each task vector
    elect    gamma = sgn sum_t tau_t
    merge    tau = mean of the entries with sign gamma;   theta = theta_0 + lambda tau

Yadav et al. (2023), arXiv 2306.01708, who sort over the whole network (``unit="vector"``) and keep
20 %. Public code of the authors keeps one entry more than it says, which is not followed.

Limitations: which entries are large depends on the unit: see the report of what was used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import (
    Consensus,
    Density,
    Entries,
    Members,
    Passes,
    Statistics,
    Unit,
    check_density,
    consensus,
    from_base,
    from_least,
    least_kept,
)
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class TIES:
    """Trim the task vectors, elect a sign for each entry, average the entries that agree.

    ``scale`` is lambda; ``consensus="sum"`` adds the entries that agree instead of averaging.

    >>> import torch
    >>> base, a = {"w": torch.zeros(3)}, {"w": torch.tensor([3.0, -1.0, 0.5])}
    >>> b = {"w": torch.tensor([-1.0, -2.0, 0.1])}
    >>> TIES(density=2 / 3).solve([a, b], base=base)["w"].tolist()
    [3.0, -1.5, 0.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    whole: ClassVar[bool] = True
    cut: ClassVar[str] = "passes"

    density: Density = 0.2
    scale: float = 1.0
    weights: Sequence[float] | None = None
    unit: Unit = "vector"
    consensus: Consensus = "mean"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError for a density outside (0, 1]."""
        check_density(self.density, method="TIES")

        def merged(tau: Tensor, name: str, least: Tensor) -> Tensor:
            kept = from_least(tau, least)
            return self.scale * consensus(kept, weights=self.weights, how=self.consensus)

        rule = Passes(merged, self._least)
        return from_base(members, base, rule, unit=self.unit)

    def _least(self, tau: Entries) -> Tensor:
        """The smallest modulus that is kept of each member."""
        return least_kept(tau.mapped(torch.abs), self.density, tau.count)
