"""WeLore's rank rule: one threshold for all matrices, and each is cut as its own spectrum allows.

    find t:   sum_l #{i: s_i^l / s_1^l < t} / sum_l k_l = reduction,      k_l = min(out_l, in_l)
    rank_l = #{i: s_i^l / s_1^l >= t}

A matrix is a low-rank component if its rank is below half of k_l; the others are left whole by the
paper. Jaiswal et al. (2024), "From GaLore to WeLore", section 3, arXiv 2407.11239. Theirs tries
thresholds on a grid until the reduction is met; here it is the exact quantile, so that the
reduction is met to one value (and passed by at most one short of a tie).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.diagnostics.spectra.values import NetworkSpectra

LOW = 0.5
"""Share of the full rank below which a matrix counts as low-rank."""


@dataclasses.dataclass(frozen=True)
class RankCut:
    """The ``ranks`` that one ``threshold`` leaves, beside the ``full`` ones, by tensor names.

    low: the names of the low-rank components.
    """

    threshold: float
    ranks: Mapping[str, int]
    full: Mapping[str, int]

    @property
    def low(self) -> tuple[str, ...]:
        """Matrices that keep less than half of their rank."""
        return tuple(name for name, rank in self.ranks.items() if rank < LOW * self.full[name])

    @property
    def reduction(self) -> float:
        """The share of all singular values that are cut."""
        return 1 - sum(self.ranks.values()) / sum(self.full.values())


def welore_ranks(spectra: NetworkSpectra, reduction: float) -> RankCut:
    """The rank of every matrix such that together they lose this share of all singular values.

    Raises ValueError unless 0 <= reduction < 1, and without matrices.
    """
    if not 0 <= reduction < 1:
        raise ValueError(f"welore_ranks: reduction is {reduction}; from 0 on and below 1")
    if not len(spectra):
        raise ValueError("welore_ranks: the network has no matrix, so no rank can be cut")
    relative = {each.name: _relative(each.values) for each in spectra}
    every = torch.cat([*relative.values()]).sort().values
    threshold = float(every[int(reduction * len(every))])
    ranks = {name: int((values >= threshold).sum()) for name, values in relative.items()}
    return RankCut(threshold, ranks, {name: len(values) for name, values in relative.items()})


def _relative(values: Tensor) -> Tensor:
    return values / values[0] if values[0] > 0 else values
