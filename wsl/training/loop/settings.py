"""How a functional is trained, as one value of a recipe, and the evidence that training leaves."""

from __future__ import annotations

import dataclasses
from typing import Any

from wsl.training.loop.minibatch import Hardware


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    ``patience`` epochs without a better validation score end the run. ``precision`` is Fabric's.
    With several ``devices``, or ``nodes`` (machines) of as many devices each, every batch of
    ``batch_size`` is shared out among as many processes.
    ``fraction`` of the training members are used, the first of a fixed random order: a smaller
    share is part of a larger one.
    ``compile``: train under torch.compile; None where that wins back its cost (see `compiled`).
    ``capture``: on a GPU, replay recorded kernels (see `captured`).
    """

    epochs: int = 30
    fraction: float = 1.0
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip: float = 1.0
    patience: int | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: int = 1
    precision: Any = "32-true"
    compile: bool | None = False
    capture: bool = False
    nodes: int = dataclasses.field(default=1, repr=False)  # how many is no part of what a run is

    @property
    def hardware(self) -> Hardware:
        """Where to train."""
        return Hardware(self.accelerator, self.devices, self.precision, self.nodes)

    def check_alone(self, what: str) -> None:
        """Raise ValueError that ``what`` is, or are, for one process, where there are several."""
        hardware = self.hardware.resolved()
        if hardware.processes * hardware.nodes > 1:
            raise ValueError(
                f"settings.devices={hardware.devices}, settings.nodes={hardware.nodes}: {what} for "
                "one process; set both to 1"
            )


DEFAULT = Settings()


@dataclasses.dataclass(frozen=True)
class Fit:
    """Evidence of a training run: a row per epoch, and which epoch's weights were kept."""

    history: list[dict[str, float]]
    best_epoch: int
    best_score: float
