"""Short codes for weights: encode a standardised vector of P weights into a few numbers and back.

    autoencoder:  z = (norm(E(x)) - m) / s,   x' = D(s z + m),   loss = |x' - x|^2 / P + w behaviour
    PCA:          z = V^T x / s,              x' = V s z

V holds the leading right singular vectors of the training rows.

Structure is not enough: networks close in weights need not act alike, and independently trained
ones have little in common that a short code could keep. A term that compares what the decoded
network *does* makes codes of unseen networks decode to networks that work (Meynent et al., 2025,
arXiv 2503.17138). PCA as a code: Gupta et al. (2026), arXiv 2601.05052.

Codes of the training rows have zero mean and unit variance, as diffusion wants them. Not promised:
that decoded networks differ as much as the trained ones; the larger the weight of the behaviour
term, the less they do. Measure it: `dispersion_ratio`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.training import RandomRows

Penalty = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""A number to be made small, of decoded vectors, the vectors that were encoded, and a source of
randomness.
"""


class WeightCode(Protocol):
    """What the pipeline needs of a code: a module that its ``config`` rebuilds."""

    @property
    def config(self) -> dict[str, Any]: ...  # noqa: D102

    def fit(  # noqa: D102
        self,
        x: Tensor,
        *,
        steps: int,
        penalty: Penalty | None,
        seed: int,
        progress: Progress | None,
    ) -> Any: ...

    def encode(self, x: Tensor) -> Tensor: ...  # noqa: D102

    def decode(self, z: Tensor) -> Tensor: ...  # noqa: D102


class WeightAutoencoder(nn.Module):
    """An MLP autoencoder of vectors (n, features) with ``latent`` numbers between.

    noise: deviation of what is added to codes in training; codes have norm sqrt(latent) then, so
    that it cannot be outgrown.
    """

    def __init__(
        self, features: int, latent: int = 64, *, hidden: int = 512, noise: float = 0.1
    ) -> None:
        super().__init__()
        self.config = {"features": features, "latent": latent, "hidden": hidden, "noise": noise}
        self.noise = noise
        self.encoder = nn.Sequential(
            *_mlp(features, hidden, latent), nn.LayerNorm(latent, elementwise_affine=False)
        )
        self.decoder = nn.Sequential(*_mlp(latent, hidden, features))
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.center: Tensor
        self.scale: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, latent)."""
        return (self.encoder(x) - self.center) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Vectors (n, features)."""
        return self.decoder(z * self.scale + self.center)

    def fit(
        self,
        x: Tensor,
        *,
        steps: int = 600,
        penalty: Penalty | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> WeightAutoencoder:
        """Train on rows ``x`` (N, features); ``penalty`` is added to the mean squared error.

        settings: ``batch_size``, ``lr`` and ``hardware`` of `wsl.training.RandomRows`.
        """
        how, rng = RandomRows(**settings), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(self.parameters(), how.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, how.lr, total_steps=steps + 1, pct_start=0.1
        )
        with how.descent(self, optimizer, schedule) as descent:
            rows = x.to(descent.device)
            descent.run(
                lambda _: self._loss(rows[how.draw(len(rows), rng)], penalty, rng),
                range(steps),
                progress=progress,
            )
        self._normalise(x)
        return self

    def _loss(self, target: Tensor, penalty: Penalty | None, rng: torch.Generator) -> Tensor:
        code = self.encoder(
            target + self.noise * torch.randn(target.shape, generator=rng).to(target)
        )
        decoded = self.decoder(code + self.noise * torch.randn(code.shape, generator=rng).to(code))
        loss = (decoded - target).square().mean()
        return loss if penalty is None else loss + penalty(decoded, target, rng)

    @torch.no_grad()
    def _normalise(self, x: Tensor) -> None:
        codes = self.encoder(x)
        self.center.copy_(codes.mean(0))
        self.scale.copy_(codes.std(0, correction=0).clamp_min(1e-6))


class WeightPCA(nn.Module):
    """The best linear code: principal components, exact where ``latent`` reaches the rows' rank."""

    def __init__(self, features: int, latent: int = 64) -> None:
        super().__init__()
        self.config = {"features": features, "latent": latent}
        self.register_buffer("components", torch.zeros(latent, features))
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("scale", torch.ones(latent))
        self.components: Tensor
        self.center: Tensor
        self.scale: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, latent)."""
        return (x - self.center) @ self.components.T / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Vectors (n, features)."""
        return (z * self.scale) @ self.components + self.center

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        *,
        steps: int = 1,
        penalty: Penalty | None = None,
        seed: int = 0,  # noqa: ARG002 - the interface of codes
        progress: Progress | None = None,
    ) -> WeightPCA:
        """Read the components off rows ``x`` (N, features); a ``penalty`` is refused.

        Nothing is trained that it could act on.
        """
        if penalty is not None:
            raise ValueError(
                "WeightPCA: a linear code cannot be trained for behaviour; use WeightAutoencoder, "
                "or fit without model"
            )
        latent, most = len(self.scale), min(x.shape)
        if latent > most:
            raise ValueError(
                f"WeightPCA: latent is {latent}, but {x.shape[0]} rows of {x.shape[1]} weights "
                f"have no more than {most} components"
            )
        self.center.copy_(x.mean(0))
        _, singular, components = torch.linalg.svd(x - self.center, full_matrices=False)
        self.components.copy_(components[:latent])
        self.scale.copy_((singular[:latent] / len(x) ** 0.5).clamp_min(1e-6))
        if progress is not None:
            progress(steps, 0.0)
        return self


def _mlp(enter: int, hidden: int, leave: int) -> list[nn.Module]:
    return [
        nn.Linear(enter, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, leave),
    ]
