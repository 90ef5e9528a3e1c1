"""How hyper-networks are trained: one step of Adam after another on a loss of fresh draws.

The rate rises and falls once (Smith and Topin, 2018, arXiv 1708.07120). A run that was stopped goes
on from its file and ends, bit for bit, where one in a piece does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from wsl.base import Progress
from wsl.generative.models.resume import FitState, check_positive


@dataclasses.dataclass(frozen=True)
class LossTraining:
    """For so many ``steps``, at a rate of ``lr`` at its highest.

    clip: largest norm of the gradient, None for any. checkpoint: file that an interrupted run is
    written to ``every`` so many steps, and goes on from. Raises ValueError for no steps or rate.
    """

    steps: int
    lr: float
    clip: float | None = None
    checkpoint: str | Path | None = None
    every: int = 200

    def __post_init__(self) -> None:
        check_positive(self, "steps", "every", "lr")

    def run(
        self,
        module: nn.Module,
        loss: Callable[[torch.Generator], Tensor],
        *,
        seed: int,
        progress: Progress | None,
    ) -> list[float]:
        """Train the parameters of ``module``; the losses of the steps that were taken now."""
        rng, losses = torch.Generator().manual_seed(seed), []
        optimizer = torch.optim.Adam(module.parameters(), self.lr)
        schedule = OneCycleLR(optimizer, self.lr, total_steps=self.steps, pct_start=0.1)
        file = None if self.checkpoint is None else Path(self.checkpoint)
        state = FitState(file, module, nn.Identity(), optimizer, schedule)
        for step in range(state.read(rng) + 1, self.steps + 1):
            losses.append(self._step(loss(rng), module, optimizer))
            schedule.step()
            if progress is not None:
                progress(step, losses[-1])
            if step % self.every == 0 or step == self.steps:
                state.write(step, rng)
        return losses

    def _step(self, loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.clip)
        optimizer.step()
        return loss.item()
