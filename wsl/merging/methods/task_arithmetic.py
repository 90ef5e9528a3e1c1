"""Task arithmetic: the base plus a weighted sum of task vectors.

    theta = theta_0 + lambda sum_t w_t (theta_t - theta_0)

Ilharco et al. (2023), arXiv 2212.04089. A negative weight forgets a task. Time vectors (Nylund et
al. 2024, arXiv 2312.13401) lie between two with weights (a, 1 - a); task prompt vectors (Belanec et
al. 2025, arXiv 2408.01119) are the same algebra on a dict that holds a prompt. An analogy "A is to
B as C is to ..." has weights (-1, 1, 1).

Limitations: the sum of many task vectors is longer than each; tune ``scale`` on validation data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from wsl.merging.pieces import Members, Passes, Statistics, from_base, summed, weighted
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class TaskArithmetic:
    """The base plus the scaled sum of the task vectors.

    ``scale`` is lambda; ``weights``, of any sign, are one for each member.

    >>> import torch
    >>> base, a, b = ({"w": torch.tensor(w)} for w in ([1.0, 1.0], [2.0, 1.0], [1.0, 3.0]))
    >>> TaskArithmetic(scale=0.5).solve([a, b], base=base)["w"].tolist()
    [1.5, 2.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "entries"

    scale: float = 1.0
    weights: Sequence[float] | None = None

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The base with all task vectors added."""

        def added(tau: Tensor, name: str, known: None) -> Tensor:
            return self.scale * summed(weighted(self.weights, tau))

        return from_base(members, base, Passes(added))
