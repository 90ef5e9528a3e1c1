"""Adding noise to vectors step by step, and taking it away again.

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)
    abar_t = prod_{s <= t} (1 - beta_s)
    v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0

DDPM: Ho et al. (2020), arXiv 2006.11239, with its schedule as p-diff uses it, Wang et al. (2024),
arXiv 2402.13144: beta = linspace(1e-4, 2e-2, 1000). The schedule of latent diffusion, Rombach et
al. (2022), arXiv 2112.10752, with the numbers of D2NWG, Soro et al. (2024), arXiv 2402.18153:
beta = linspace(sqrt(.0015), sqrt(.0155), 1024)^2. v: Salimans and Ho (2022), arXiv 2202.00512.
The way back is a choice: see `samplers`. Nothing here is learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from wsl.generative.models.samplers import DDIM


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """beta_t = linspace(first^(1/power), last^(1/power), steps)^power, t = 1 ... steps.

    power 1 is DDPM's linear schedule, 2 the "scaled linear" one of latent diffusion.
    """

    first: float = 1e-4
    last: float = 2e-2
    steps: int = 1000
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.last < 1 and self.steps > 1 and self.power > 0):
            raise ValueError(
                f"{self}: 0 < first <= last < 1, at least 2 steps and a power above 0 are needed"
            )

    def betas(self) -> Tensor:
        """The variance added at each step, (steps,), float64."""
        ends = self.first ** (1 / self.power), self.last ** (1 / self.power)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** self.power


P_DIFF = NoiseSchedule()
"""The schedule of p-diff, which is that of DDPM."""
D2NWG = NoiseSchedule(0.0015, 0.0155, 1024, power=2.0)
"""The schedule of D2NWG."""


def linear_betas(steps: int = 1000) -> Tensor:
    """The variance that p-diff's schedule adds at each step, (steps,), float64."""
    return NoiseSchedule(steps=steps).betas()


def alpha_bars(betas: Tensor) -> Tensor:
    """Share of the variance that is still signal after each step."""
    return (1 - betas).cumprod(0)


def noised(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x_t from x_0 and eps; ``abar`` broadcasts against both."""
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


def velocity(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """v_t from x_0 and eps."""
    return abar.sqrt() * noise - (1 - abar).sqrt() * x0


def clean_and_noise(xt: Tensor, v: Tensor, abar: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and eps from x_t and v_t, the inverse of `noised` and `velocity`."""
    return abar.sqrt() * xt - (1 - abar).sqrt() * v, (1 - abar).sqrt() * xt + abar.sqrt() * v


def reverse(
    predict: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    *,
    betas: Tensor,
    steps: int = 50,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Carry ``noise`` (n, D) back to samples of x_0 by `DDIM`; ``predict`` gives v of x_t and t."""
    return DDIM(steps, eta=eta).carry(predict, noise, betas=betas, generator=generator)
