"""Adding noise to vectors step by step, and taking it away again.

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)
    abar_t = prod_{s <= t} (1 - beta_s),   beta = linspace(1e-4, 2e-2, 1000)
    v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0

DDPM: Ho et al. (2020), arXiv 2006.11239, with its schedule as p-diff uses it, Wang et al. (2024),
arXiv 2402.13144. DDIM: Song et al. (2020), arXiv 2010.02502. v: Salimans and Ho (2022), arXiv
2202.00512. The steps back are those of diffusers, imported with the first sample since that costs
seconds. Nothing here is learned: given the exact v, samples follow q(x_0) up to the error of finite
steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def linear_betas(steps: int = 1000) -> Tensor:
    """The variance added at each step, (steps,), float64."""
    return torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)


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
    """Carry ``noise`` (n, D) back to samples of x_0 in ``steps`` steps.

    predict: v of x_t (n, D) and t, int64 (n,).
    eta = 0 is DDIM, deterministic; eta = 1 draws as much fresh noise as DDPM, from ``generator``.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=len(betas),
        trained_betas=betas.cpu().numpy(),
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps.tolist():
        v = predict(x, torch.full((len(x),), t, device=x.device))
        x = scheduler.step(v, t, x, eta=eta, generator=generator, return_dict=False)[0].to(noise)
    return x
