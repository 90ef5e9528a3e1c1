"""A diffusion model of vectors, conditioned on a few numbers.

    loss = E_{t, eps} |v_theta(x_t, t, c) - v_t|^2
    guided: v = v(x, t, none) + w (v(x, t, c) - v(x, t, none))

DDPM: Ho et al. (2020), arXiv 2006.11239; on latents of weights as in D2NWG, Soro et al. (2024),
arXiv 2402.18153. Guidance: Ho and Salimans (2022), arXiv 2207.12598. v: Salimans and Ho (2022),
arXiv 2202.00512, chosen over eps because at t = T the noise says nothing about x_0. The same seed
gives the same model and the same samples on one machine. It can memorise: trained long on few rows
it returns them, which its loss does not show; see `evaluate`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.models.denoiser import Denoiser
from wsl.generative.models.noise import alpha_bars, linear_betas, noised, reverse, velocity
from wsl.training import RandomRows


class VectorDiffusion(nn.Module):
    """A diffusion model of vectors (n, features) given ``conditions`` numbers each, or none.

    dropout: share of training rows whose condition is hidden; without it there is neither guidance
    nor sampling without a condition.
    """

    def __init__(
        self,
        features: int,
        *,
        conditions: int = 0,
        hidden: int = 256,
        blocks: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features, self.conditions, self.dropout = features, conditions, dropout
        self.denoiser = Denoiser(features, conditions=conditions, hidden=hidden, blocks=blocks)
        self.register_buffer("betas", linear_betas(), persistent=False)
        self.register_buffer("condition_mean", torch.zeros(conditions))
        self.register_buffer("condition_std", torch.ones(conditions))
        self.betas: Tensor
        self.condition_mean: Tensor
        self.condition_std: Tensor

    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        steps: int = 600,
        decay: float = 0.999,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> VectorDiffusion:
        """Train on rows ``x`` (N, features) of about unit variance, and keep a moving average.

        decay: of that average. settings: ``batch_size`` (128), ``lr`` and ``hardware`` of
        `wsl.training.RandomRows`.
        """
        condition = self._checked(condition, len(x))
        self._measure(condition)
        how = RandomRows(**{"batch_size": 128, **settings})
        rng = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), how.lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with how.descent(self, optimizer, schedule) as descent:
            average = copy.deepcopy(self.denoiser)
            rows, known = x.to(descent.device), condition.to(descent.device)

            def loss(_: int) -> Tensor:
                drawn = how.draw(len(rows), rng)
                return self.loss(rows[drawn], known[drawn], generator=rng)

            def follow(step: int) -> None:
                _follow(average, self.denoiser, rate=min(decay, (step + 1) / (step + 11)))

            descent.run(loss, range(steps), after=follow, progress=progress)
            self.denoiser.load_state_dict(average.state_dict())
        return self

    def _measure(self, condition: Tensor) -> None:
        """Mean and deviation of the conditions, by which they are standardised."""
        if self.conditions:
            self.condition_mean.copy_(condition.mean(0))
            self.condition_std.copy_(condition.std(0, correction=0).clamp_min(1e-6))

    def loss(
        self, x: Tensor, condition: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean squared error of v at random times; generator on the CPU."""
        t = torch.randint(len(self.betas), (len(x),), generator=generator).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        known = (torch.rand(len(x), generator=generator) >= self.dropout).to(x)
        abar = alpha_bars(self.betas)[t, None].to(x)
        v = self.denoiser(noised(x, noise, abar), t, self._standard(condition), known=known)
        return (v - velocity(x, noise, abar)).square().mean()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        steps: int = 50,
        eta: float = 0.0,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` vectors; ``condition`` is (n, K) or (K,) or None; the generator is on the CPU."""
        like = self.denoiser.enter.weight
        known = like.new_full((n,), float(condition is not None))
        given = like.new_zeros(n, self.conditions)
        if condition is not None:
            given = self._standard(self._checked(condition, n))
        guided = guidance if condition is not None else 1.0

        def predict(x: Tensor, t: Tensor) -> Tensor:
            v = self.denoiser(x, t, given, known=known)
            if guided == 1.0:
                return v
            free = self.denoiser(x, t, given, known=torch.zeros_like(known))
            return free + guided * (v - free)

        noise = torch.randn(n, self.features, generator=generator).to(like)
        return reverse(predict, noise, betas=self.betas, steps=steps, eta=eta, generator=generator)

    def _standard(self, condition: Tensor) -> Tensor:
        return (condition - self.condition_mean) / self.condition_std

    def _checked(self, condition: Tensor | None, n: int) -> Tensor:
        like = self.denoiser.enter.weight
        if condition is None:
            if self.conditions:
                raise ValueError(
                    f"condition: missing, but the model was made for {self.conditions} numbers "
                    "per row"
                )
            return torch.zeros(n, 0).to(like)
        condition = torch.as_tensor(condition).to(like)
        condition = condition.expand(n, -1) if condition.dim() == 1 else condition
        if condition.shape != (n, self.conditions):
            raise ValueError(
                f"condition: shape {tuple(condition.shape)}, but {(n, self.conditions)} is needed"
            )
        if not condition.isfinite().all():
            raise ValueError(
                "condition: holds NaN or infinite values; leave out members that diverged"
            )
        return condition


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, *, rate: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - rate)
