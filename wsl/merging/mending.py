"""`Mend`: what is made anew after a merge, step by step.

    reset                statistics of batch norm                            Izmailov et al. (2018)
    repair               statistics of every unit, layer by layer            Jordan et al. (2023)
    least_squares        each layer fitted to what the members compute       PLeaS (2024)
    repair_on_noise      repair without data, on noise like images
    repair_closed_form   repair without data, statistics from the weights

The steps are those of `wsl.connectivity`; `merge` runs them with the members as they were aligned.
The first three need some hundred inputs like those of the task, without labels. On trained networks
least squares after repair loses least; what is done without data is far behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from wsl.base import did_you_mean
from wsl.connectivity import (
    least_squares,
    repair,
    repair_closed_form,
    repair_on_noise,
    reset_batch_norm,
)
from wsl.params import Params

_ON_DATA = MappingProxyType({"repair": repair, "least_squares": least_squares})
_WITHOUT_DATA = MappingProxyType(
    {"repair_on_noise": repair_on_noise, "repair_closed_form": repair_closed_form}
)
STEPS = ("reset", *_ON_DATA, *_WITHOUT_DATA)
"""Names of the steps, in the order in which they are usually taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mend:
    """``steps`` in their order, on ``model``; raises ValueError for a step that does not exist.

    example: inputs on which the model runs, of which steps without data use the shape; the first
    batch unless given.
    """

    model: nn.Module
    steps: Sequence[str] = ("repair", "least_squares")
    example: Tensor | None = None

    def __post_init__(self) -> None:
        for step in self.steps:
            if step not in STEPS:
                raise ValueError(
                    f"Mend: step '{step}' does not exist{did_you_mean(step, STEPS)}; there are "
                    f"{', '.join(STEPS)}"
                )

    @property
    def needs_data(self) -> bool:
        """Whether there is a step that cannot do without inputs."""
        return self.example is None or any(step not in _WITHOUT_DATA for step in self.steps)

    def apply(
        self,
        params: Params,
        members: Sequence[Mapping[str, Tensor]],
        batches: Iterable[Any] = (),
        *,
        weights: Sequence[float] | None = None,
    ) -> Params:
        """The merged ``params`` of aligned ``members``, mended on batches of inputs.

        weights: the shares of the members in the merge, equal unless given.
        """
        batches = list(batches)
        for step in self.steps:
            if step == "reset":
                params = reset_batch_norm(self.model, params, batches)
                continue
            how: dict[str, Any] = {"batches": batches}
            if step in _WITHOUT_DATA:
                how = {"example": self._example(batches)}
            run = {**_ON_DATA, **_WITHOUT_DATA}[step]
            params = run(self.model, params, members, weights=weights, **how).params
        return params

    def _example(self, batches: Sequence[Any]) -> Tensor:
        if self.example is not None:
            return self.example
        if not batches:
            raise ValueError("Mend: give an example, whose shape is that of the model's inputs")
        return batches[0] if isinstance(batches[0], Tensor) else batches[0][0]
