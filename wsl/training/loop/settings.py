"""How a functional is trained, as one value of a recipe, and the evidence that training leaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from wsl.training.loop.minibatch import Hardware

RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "fraction": (lambda share: 0 < share <= 1, "in (0, 1]"),
    "lr": (lambda rate: 0 < rate < math.inf, "above 0"),
    "weight_decay": (lambda decay: 0 <= decay < math.inf, "in [0, inf)"),
    "warmup": (lambda share: 0 <= share <= 1, "in [0, 1]"),
    "clip": (lambda norm: norm > 0, "above 0; inf is no limit"),
}
"""Which numbers a setting may be, and how that is said."""


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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "nodes"):
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("seed", self.seed, least=0)
        if self.patience is not None:
            _check_whole("patience", self.patience, least=0)
        for name in RANGES:
            _check_number(name, getattr(self, name))

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


def _check_whole(name: str, value: Any, *, least: int) -> None:
    """Raise ValueError unless ``value`` is a whole number, at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"settings.{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"settings.{name} is {value}, but it must be at least {least}")


def _check_number(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a number in the range of its name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"settings.{name} must be a number, got {value!r}")
    fits, told = RANGES[name]
    if not fits(value):  # as NaN never does
        raise ValueError(f"settings.{name} is {value}, but it must lie {told}")


DEFAULT = Settings()


@dataclasses.dataclass(frozen=True)
class Fit:
    """Evidence of a training run: a row per epoch, and which epoch's weights were kept."""

    history: list[dict[str, float]]
    best_epoch: int
    best_score: float
