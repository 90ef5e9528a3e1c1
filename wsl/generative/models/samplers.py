"""From noise back to data: the steps of diffusers as values, all for a prediction of v.

    x_T ~ N(0, I)  ->  x_0,    v(x_t, t) given

`DDIM`: Song et al. (2020), arXiv 2010.02502. `DDPM`: Ho et al. (2020), arXiv 2006.11239.
`DPMSolver`: DPM-Solver++, Lu et al. (2022), arXiv 2211.01095. `EulerSteps` and `HeunSteps`: Karras
et al. (2022), arXiv 2206.00364. Given the exact v, each recovers a normal distribution up to the
error of finite steps; that is a test of every one. The steps are those of diffusers, imported with
the first sample since that costs seconds.
"""

from __future__ import annotations

import abc
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""v (n, D) of x_t (n, D) and t, int64 (n,)."""


@dataclasses.dataclass(frozen=True)
class DiffusionSampler(abc.ABC):
    """A way back in ``steps`` steps.

    draws: whether each step draws fresh noise.
    """

    steps: int = 50
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps}, but at least 1 is needed")

    @abc.abstractmethod
    def scheduler(self, **shared: Any) -> Any:
        """The scheduler of diffusers, made with what all of them are told alike."""

    def options(self, generator: torch.Generator | None) -> Mapping[str, Any]:
        """What its step takes beside prediction, time and x."""
        return {"generator": generator} if self.draws else {}

    def carry(
        self,
        predict: Predict,
        noise: Tensor,
        *,
        betas: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Samples (n, D) of x_0 from ``noise`` (n, D); ``generator`` is read where it ``draws``."""
        scheduler = self._begun(betas)
        x, options = noise * float(scheduler.init_noise_sigma), self.options(generator)
        for t in scheduler.timesteps:
            times = torch.full((len(x),), int(t), device=x.device)
            v = predict(scheduler.scale_model_input(x, t).to(noise), times)
            x = scheduler.step(v, t, x, **options, return_dict=False)[0].to(noise)
        return x

    def _begun(self, betas: Tensor) -> Any:
        """The scheduler at its first step."""
        with warnings.catch_warnings():
            # Some of them give tensors to numpy in a way that its second version is leaving.
            warnings.simplefilter("ignore", DeprecationWarning)
            scheduler = self.scheduler(
                num_train_timesteps=len(betas),
                trained_betas=betas.cpu().numpy(),
                prediction_type="v_prediction",
                timestep_spacing="trailing",
            )
            scheduler.set_timesteps(self.steps)
        return scheduler


@dataclasses.dataclass(frozen=True)
class DDIM(DiffusionSampler):
    """eta = 0 is deterministic; eta = 1 draws as much fresh noise as DDPM.

    Of diffusers it has the times, and not the step, which goes from t to t - T // steps: where the
    number of steps does not divide the schedule that is another time than the next one.
    """

    eta: float = 0.0
    draws: ClassVar[bool] = True

    def carry(  # noqa: D102
        self,
        predict: Predict,
        noise: Tensor,
        *,
        betas: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        times = self._begun(betas).timesteps.tolist()
        signal = (1 - betas).cumprod(0).tolist()
        after = [*(signal[t] for t in times[1:]), 1.0]
        x = noise
        for t, then in zip(times, after, strict=True):
            v = predict(x, torch.full((len(x),), t, device=x.device))
            x = self._step(x, v, (signal[t], then), generator=generator)
        return x

    def _step(
        self,
        x: Tensor,
        v: Tensor,
        signal: tuple[float, float],
        *,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Equation 12 of the paper: from the share of signal that x has to the next one."""
        now, then = signal
        clean, eps = now**0.5 * x - (1 - now) ** 0.5 * v, (1 - now) ** 0.5 * x + now**0.5 * v
        fresh = self.eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        x = then**0.5 * clean + max(0.0, 1 - then - fresh) ** 0.5 * eps
        if not fresh:
            return x
        return x + fresh**0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)

    def scheduler(self, **shared: Any) -> Any:  # noqa: D102
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        return DDIMScheduler(clip_sample=False, **shared)


@dataclasses.dataclass(frozen=True)
class DDPM(DiffusionSampler):
    """Ancestral sampling, with fresh noise in every step."""

    steps: int = 250
    draws: ClassVar[bool] = True

    def scheduler(self, **shared: Any) -> Any:  # noqa: D102
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        return DDPMScheduler(clip_sample=False, **shared)


@dataclasses.dataclass(frozen=True)
class DPMSolver(DiffusionSampler):
    """The multistep solver of the probability flow: few steps, deterministic."""

    steps: int = 25
    order: int = 2

    def scheduler(self, **shared: Any) -> Any:  # noqa: D102
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(
            solver_order=self.order, final_sigmas_type="zero", **shared
        )


@dataclasses.dataclass(frozen=True)
class EulerSteps(DiffusionSampler):
    """One evaluation for each step of the probability flow."""

    steps: int = 100

    def scheduler(self, **shared: Any) -> Any:  # noqa: D102
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        return EulerDiscreteScheduler(**shared)


@dataclasses.dataclass(frozen=True)
class HeunSteps(DiffusionSampler):
    """Two evaluations for each step of the probability flow."""

    steps: int = 50

    def scheduler(self, **shared: Any) -> Any:  # noqa: D102
        from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

        return HeunDiscreteScheduler(**shared)


@dataclasses.dataclass(frozen=True)
class RungeKutta:
    """Integrates dx/dt = v(x, t) from noise at t = 0 to data at t = 1, for flows.

    stages: 4 is the classical method, 2 the midpoint rule, 1 Euler's.
    """

    steps: int = 50
    stages: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stages not in (1, 2, 4):
            raise ValueError(f"{self}: at least 1 step, and 1, 2 or 4 stages are needed")

    def carry(self, predict: Predict, noise: Tensor) -> Tensor:
        """Samples (n, D) from ``noise`` (n, D); ``predict`` gives v of x and t in [0, 1], (n,)."""
        x, h = noise, 1 / self.steps
        for i in range(self.steps):
            x = x + h * self._slope(lambda y, t: predict(y, y.new_full((len(y),), t)), x, i * h)
        return x

    def _slope(self, v: Callable[[Tensor, float], Tensor], x: Tensor, t: float) -> Tensor:
        h = 1 / self.steps
        first = v(x, t)
        if self.stages == 1:
            return first
        second = v(x + h / 2 * first, t + h / 2)
        if self.stages == 2:
            return second
        third = v(x + h / 2 * second, t + h / 2)
        return (first + 2 * second + 2 * third + v(x + h * third, t + h)) / 6
