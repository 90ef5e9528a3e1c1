"""A diffusion model of vectors, conditioned on a few numbers.

    loss = E_{t, eps} |v_theta(x_t, t, c) - v_t|^2

DDPM: Ho et al. (2020), arXiv 2006.11239; on latents of weights as in D2NWG, Soro et al. (2024),
arXiv 2402.18153. v: Salimans and Ho (2022), arXiv 2202.00512, chosen over eps because at t = T the
noise says nothing about x_0, and because v = 0 is exact for a standard normal: an untrained model
draws one. It can memorise: trained long on few rows it returns them, which its loss does not show;
see `watch` and `judge`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wsl.generative.models.noise import (
    P_DIFF,
    NoiseSchedule,
    alpha_bars,
    clean_and_noise,
    noised,
    velocity,
)
from wsl.generative.models.samplers import DDIM, DiffusionSampler
from wsl.generative.models.vectors import Noised, VectorModel


class VectorDiffusion(VectorModel):
    """A diffusion model of vectors (n, features) given ``conditions`` numbers each, or none.

    schedule: of its noise. size: what every `VectorModel` takes.
    """

    def __init__(self, features: int, *, schedule: NoiseSchedule = P_DIFF, **size: Any) -> None:
        super().__init__(features, **size)
        self._betas = schedule.betas()  # no buffer: a model that is cast would round them

    @property
    def betas(self) -> Tensor:
        """The variance added at each step, (steps,), float64 whatever the model is cast to."""
        return self._betas.to(self.condition_mean.device)

    def noised(self, x: Tensor, *, generator: torch.Generator | None) -> Noised:  # noqa: D102
        t = torch.randint(len(self.betas), (len(x),), generator=generator).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        abar = alpha_bars(self.betas)[t, None].to(x)
        return Noised(noised(x, noise, abar), t, velocity(x, noise, abar), abar)

    def clean(self, noised: Noised, out: Tensor) -> Tensor:  # noqa: D102
        return clean_and_noise(noised.x, out, noised.trust)[0]

    def sampler(self, **settings: Any) -> DiffusionSampler:
        """`DDIM`; settings: ``steps`` and ``eta``."""
        return DDIM(**settings)

    def carry(  # noqa: D102
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        *,
        sampler: DiffusionSampler,
        generator: torch.Generator | None,
    ) -> Tensor:
        if not isinstance(sampler, DiffusionSampler):
            raise ValueError(f"sampler: {sampler}, but a diffusion needs a step such as DDIM(50)")
        return sampler.carry(predict, noise, betas=self.betas, generator=generator)
