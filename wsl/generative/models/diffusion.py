"""A diffusion model of vectors, conditioned on a few numbers.

    loss = E_{t, eps} |v_theta(x_t, t, c) - v_t|^2,       guided: v = v(x, t, none) + w (v(x, t, c)
                                                          - v(x, t, none))

DDPM: Ho et al. (2020), arXiv 2006.11239; on latents of weights as in D2NWG, Soro et al. (2024),
arXiv 2402.18153. Guidance: Ho and Salimans (2022), arXiv 2207.12598. v: Salimans and Ho (2022),
arXiv 2202.00512, chosen over eps because at t = T the noise says nothing about x_0. The same seed
gives the same model and the same samples on one machine. It can memorise: trained long on few rows
it returns them, which its loss does not show; see `evaluate`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.models.denoiser import Denoiser
from wsl.generative.models.noise import alpha_bars, linear_betas, noised, reverse, velocity


class LatentDiffusion(nn.Module):
    """A diffusion model of vectors (n, features) given ``conditions`` numbers each, or none.

    dropout: share of training rows whose condition is hidden, so that guidance and unconditional
    sampling are possible.
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
        batch_size: int = 128,
        lr: float = 1e-3,
        decay: float = 0.999,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> LatentDiffusion:
        """Train on rows ``x`` (N, features) of about unit variance; a moving average of the
        denoiser is kept.
        """
        condition = self._checked(condition, len(x))
        if self.conditions:
            self.condition_mean.copy_(condition.mean(0))
            self.condition_std.copy_(condition.std(0, correction=0).clamp_min(1e-6))
        rng = torch.Generator().manual_seed(seed)
        average = copy.deepcopy(self.denoiser)
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(1, steps + 1):
            rows = torch.randint(len(x), (batch_size,), generator=rng).to(x.device)
            loss = self.loss(x[rows], condition[rows], generator=rng)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            _follow(average, self.denoiser, rate=min(decay, step / (step + 10)))
            if progress is not None:
                progress(step, float(loss.detach()))
        self.denoiser.load_state_dict(average.state_dict())
        return self

    def loss(
        self, x: Tensor, condition: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean squared error of v at random times; generator on the CPU."""
        t = torch.randint(len(self.betas), (len(x),), generator=generator).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        known = (torch.rand(len(x), generator=generator) >= self.dropout).to(x)
        abar = alpha_bars(self.betas)[t, None].to(x)
        v = self.denoiser(noised(x, noise, abar), t, self._standard(condition), known)
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
        """``n`` vectors; ``condition`` is (n, K) or (K,), None samples without; generator on the
        CPU.
        """
        like = self.denoiser.enter.weight
        known = torch.full((n,), float(condition is not None), device=like.device, dtype=like.dtype)
        given = (
            torch.zeros(n, self.conditions).to(like)
            if condition is None
            else self._standard(self._checked(condition, n))
        )

        def predict(x: Tensor, t: Tensor) -> Tensor:
            v = self.denoiser(x, t, given, known)
            if guidance == 1.0 or condition is None:
                return v
            free = self.denoiser(x, t, given, torch.zeros_like(known))
            return free + guidance * (v - free)

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
