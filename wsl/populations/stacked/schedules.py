"""Learning-rate schedules: a factor for each step, the same for all members or each its own.

    warm-up:    (t + 1) / w                             for t < w, then with u = (t - w) / (T - w):
    Constant:   1
    Cosine:     f + (1 - f) (1 + cos pi u) / 2
    Steps:      factor^k                                where k is the number of u_i <= u

Cosine: Loshchilov and Hutter (2017), arXiv 1608.03983, without restarts. The factor of step t of T
is known without running the steps before it, so a member's schedule does not depend on its company.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.populations.describe import build
from wsl.zoo import ZooError


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """``warmup`` is the number of steps in which the factor rises linearly to its first value."""

    warmup: int = 0

    def __call__(self, step: int, steps: int) -> float:
        """Factor of the learning rate at ``step`` = 0..steps-1."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self._factor((step - self.warmup) / max(steps - self.warmup, 1))

    @abc.abstractmethod
    def _factor(self, progress: float) -> float: ...


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate itself."""

    def _factor(self, progress: float) -> float:
        del progress
        return 1.0


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to ``final``."""

    final: float = 0.0

    def _factor(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


@dataclasses.dataclass(frozen=True)
class Steps(Schedule):
    """Times ``factor`` at each share of the training in ``at``."""

    at: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1

    def _factor(self, progress: float) -> float:
        return self.factor ** sum(progress >= share for share in self.at)


SCHEDULES = {"wsl.zoo.Constant": Constant, "wsl.zoo.Cosine": Cosine, "wsl.zoo.Steps": Steps}


def build_schedule(description: Mapping[str, Any]) -> Schedule:
    """A schedule from its description; raises `ZooError` for any other target."""
    return build(description, allowed=SCHEDULES, what="schedule")


def factors(
    schedule: Schedule | Sequence[Schedule], step: int, *, steps: int, members: int
) -> Tensor:
    """(N,) float64 factors at ``step``; a sequence has one schedule per member."""
    if isinstance(schedule, Schedule):
        return torch.full((members,), schedule(step, steps), dtype=torch.float64)
    if len(schedule) != members:
        raise ZooError(
            f"schedule: {len(schedule)} given for {members} members; give one for all, or one each"
        )
    return torch.tensor([each(step, steps) for each in schedule], dtype=torch.float64)
