"""`Mend`: what is measured anew after a merge, from inputs without labels, step by step.

    reset           statistics of batch norm                                 Izmailov et al. (2018)
    repair          statistics of every unit, layer by layer                 Jordan et al. (2023)
    least_squares   each layer fitted to what the members compute            PLeaS (2024)

The steps are those of `wsl.connectivity`; `merge` runs them with the members as they were aligned.
On trained networks least squares after repair loses least; all three need some hundred inputs like
those of the task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from wsl.base import did_you_mean
from wsl.connectivity import least_squares, repair, reset_batch_norm
from wsl.params import Params

_WITH_MEMBERS = MappingProxyType({"repair": repair, "least_squares": least_squares})
STEPS = ("reset", *_WITH_MEMBERS)
"""Names of the steps, in the order in which they are usually taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mend:
    """``steps`` in their order, on ``model``; raises ValueError for a step that does not exist."""

    model: nn.Module
    steps: Sequence[str] = ("repair", "least_squares")

    def __post_init__(self) -> None:
        for step in self.steps:
            if step not in STEPS:
                raise ValueError(
                    f"Mend: step '{step}' does not exist{did_you_mean(step, STEPS)}; there are "
                    f"{', '.join(STEPS)}"
                )

    def apply(
        self,
        params: Params,
        members: Sequence[Mapping[str, Tensor]],
        batches: Iterable[Any],
    ) -> Params:
        """The merged ``params`` of aligned ``members``, mended on batches of inputs."""
        batches = list(batches)
        for step in self.steps:
            if step == "reset":
                params = reset_batch_norm(self.model, params, batches)
            else:
                how: dict[str, Any] = {"batches": batches}
                params = _WITH_MEMBERS[step](self.model, params, members, **how).params
        return params
