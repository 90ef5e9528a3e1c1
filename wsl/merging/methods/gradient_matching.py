"""Uncertainty-based gradient matching: task vectors, each scaled by how sure its member was.

    H = H_0 + sum_t w_t H_t,      theta = theta_0 + lambda sum_t w_t H^{-1} (H_0 + H_t) tau_t

Daheim et al. (2024), arXiv 2310.12808. H are diagonals of squared gradients, of the base for H_0:
see `wsl.merging.statistics.fisher`. If no member knows anything of its own (H_t = 0) it is
`TaskArithmetic`.

Limitations: diagonal; ``floor`` keeps weights that nothing depends on from being divided by zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, from_base, weighted
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class GradientMatching:
    """Statistics: one mapping for each member and a last one for the base, as `Fisher` takes."""

    needs: ClassVar[frozenset[str]] = frozenset({"base", "statistics", "base statistics"})
    measures: ClassVar[str] = "fisher"

    scale: float = 1.0
    weights: Sequence[float] | None = None
    floor: float = 1e-10

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; raises ValueError unless there is one statistic more than members."""
        if statistics is None or len(statistics) != len(members) + 1:
            raise ValueError(
                f"GradientMatching: {len(members)} members need {len(members) + 1} statistics, "
                f"the last of the base, got {0 if statistics is None else len(statistics)}"
            )

        def matched(tau: Tensor, name: str) -> Tensor:
            known = [one.get(name) for one in statistics]
            if any(h is None for h in known):
                return self.scale * weighted(self.weights, tau).sum(0)
            *own, start = (h.to(tau) + self.floor for h in known if h is not None)
            curvature = torch.stack(own)
            total = start + weighted(self.weights, curvature).sum(0)
            return self.scale * (weighted(self.weights, (start + curvature) * tau) / total).sum(0)

        return from_base(members, base, matched)
