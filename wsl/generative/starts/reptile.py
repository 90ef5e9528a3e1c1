"""Reptile: a start from which a few steps on any task of a kind lead far.

    phi <- phi + step_i (mean_t theta_t - phi),   theta_t = phi after k steps of Adam on task t
    step_i falls from ``meta_lr`` to zero

Nichol et al. (2018), arXiv 1803.02999, algorithm 2, batched over tasks. The tasks are the source
that the members' own tasks come from; the members' weights are not used. As in the paper's
supervised experiments Adam has no momentum (beta_1 = 0).

Not guaranteed: anything as drawn. Its budget is that of ``iterations`` times ``tasks`` trainings of
``steps`` steps, which a comparison at equal budget has to say.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.base import Engine
from wsl.generative.problem import Start
from wsl.generative.starts.asked import given
from wsl.generative.starts.layers import own_weights
from wsl.params import Params
from wsl.populations import Adam, MemberSettings, SharedSettings, train_population


@dataclasses.dataclass(frozen=True)
class ReptileStart:
    """One network learned over tasks, n times the same; inner batches are of a task's support."""

    iterations: int = 100
    tasks: int = 8
    steps: int = 8
    batch_size: int = 32
    lr: float = 1e-2
    meta_lr: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"tasks"})

    @torch.enable_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Starts from the network's own initialisation under the seed of ``start``."""
        phi, engine = own_weights(start, 1), Engine(compiled=False)
        for i in range(self.iterations):
            tuned = self._tuned(start, phi, engine, generator=generator)
            rate = self.meta_lr * (1 - i / self.iterations)
            phi = {name: _towards(phi[name], tuned[name], rate) for name in phi}
        return {name: tensor.repeat(n, *[1] * (tensor.dim() - 1)) for name, tensor in phi.items()}

    def _tuned(
        self, start: Start, phi: Params, engine: Engine, *, generator: torch.Generator
    ) -> Params:
        """The networks (tasks, ...) after a short training on a fresh task each."""
        inputs, labels = given(start.tasks).draw(self.tasks, generator=generator).support.flat()
        shape = (self.steps, self.tasks, self.batch_size)
        rows = torch.randint(labels.shape[1], shape, generator=generator)

        def batches(step: int) -> tuple[Tensor, Tensor]:
            own = torch.arange(self.tasks)[:, None]
            return inputs[own, rows[step]], labels[own, rows[step]]

        rate = torch.full((self.tasks,), self.lr)
        return train_population(
            start.model,
            {
                name: tensor.repeat(self.tasks, *[1] * (tensor.dim() - 1))
                for name, tensor in phi.items()
            },
            F.cross_entropy,
            batches=batches,
            members=MemberSettings(lr=rate, weight_decay=torch.zeros(self.tasks)),
            shared=SharedSettings(
                optimizer=Adam(betas=(0.0, 0.999)), steps=self.steps, chunk=self.tasks
            ),
            engine=engine,
        ).snapshots[-1]


def _towards(phi: Tensor, tuned: Tensor, rate: float) -> Tensor:
    """A step to the mean of the tasks; counters stay."""
    return phi + rate * (tuned.mean(0) - phi) if phi.is_floating_point() else phi
