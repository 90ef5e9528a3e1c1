"""TSV-Merge: the leading singular vectors of every task, made orthogonal to those of the others.

    tau_t = U_t S_t V_t^T,  cut to rank k = floor(r / T)
    U = polar([U_1 ... U_T]),  V = polar([V_1 ... V_T]);     theta = theta_0 + lambda U S V^T

Gargiulo et al. (2025), arXiv 2412.00081. Ranks and weights of tasks are hooks: with ``rank`` and
``weight`` functions the re-weighted variants of arXiv 2502.06876 can be tried; no formulas of
theirs are claimed here.

Limitations: with more tasks than rank every task keeps one vector, and what they share is averaged
by the polar factor; the reference makes such an update zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Convolutions, Members, Statistics, from_base, polar, spectral
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class TSVM:
    """The task vectors with their singular vectors made orthogonal to each other, summed.

    ``scale`` is lambda.

    rank: gives the number of singular vectors of one task from its singular values (r,), the number
    of tasks T, and the task's number; floor(r / T), at least one, unless told.
    weight: gives the factor of a task's singular values from the same; 1 unless told.
    conv: kernels as matrices, or averaged as the reference does.

    >>> import torch
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.diag(torch.tensor([2.0, 0.0]))}
    >>> b = {"w": torch.diag(torch.tensor([0.0, 3.0]))}
    >>> TSVM().solve([a, b], base=base)["w"].round(decimals=4).abs().tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    cut: ClassVar[str] = "passes"
    doubles: ClassVar[int] = 9

    scale: float = 1.0
    rank: Callable[[Tensor, int, int], int] | None = None
    weight: Callable[[Tensor, int, int], float] | None = None
    conv: Convolutions = "matrix"

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The merged network; tensors that are no matrices get the mean of their task vectors."""

        def merged(tau: Tensor, name: str) -> Tensor:
            return self.scale * spectral(tau, self._orthogonal, conv=self.conv)

        return from_base(members, base, merged)

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        left, values, right = [], [], []
        for task, matrix in enumerate(matrices):  # one after the other, to hold one in float64
            u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
            kept = self._rank(s, len(matrices), task)
            left.append(u[:, :kept].clone())
            values.append(self._weight(s, len(matrices), task) * s[:kept])
            right.append(vh[:kept].clone())
        return polar(torch.cat(left, 1)) @ (torch.cat(values)[:, None] * polar(torch.cat(right)))

    def _rank(self, values: Tensor, tasks: int, task: int) -> int:
        full = len(values)
        asked = full // tasks if self.rank is None else self.rank(values, tasks, task)
        return max(1, min(asked, full))

    def _weight(self, values: Tensor, tasks: int, task: int) -> float:
        return 1.0 if self.weight is None else self.weight(values, tasks, task)
