"""What codes share that are trained by steps: rows, terms beside the loss, unit codes in the end.

    loss = loss of the code(x) + w penalty(D(E(x)), x) + w' drawn(D(z)),   z ~ N(m, s^2)

m and s^2 are the moments of the rows' own codes, entry by entry: what a distribution of codes
draws before it has learned anything, and between what it has learned. A decoder is bound by its
members at their codes only; the term of drawn codes says what it owes everywhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.codes.code import DrawnTerm, Penalty
from wsl.training import RandomRows


class TrainedCode(nn.Module):
    """Encoder and decoder, trained together on rows; a subclass says by which loss."""

    trains: ClassVar[bool] = True
    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, latent: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.latent, self.config = latent, config
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.center: Tensor
        self.scale: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, latent)."""
        return (self.raw(x) - self.center) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Vectors (n, features)."""
        return self.decoder(z * self.scale + self.center)

    def raw(self, x: Tensor) -> Tensor:
        """Codes before they are centred and scaled."""
        return self.encoder(x)

    def loss(self, target: Tensor, penalty: Penalty | None, rng: torch.Generator) -> Tensor:
        """What training makes small, of rows (n, features)."""
        raise NotImplementedError

    def fit(
        self,
        x: Tensor,
        *,
        steps: int = 600,
        penalty: Penalty | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        drawn: DrawnTerm | None = None,
        **settings: Any,
    ) -> Self:
        """Train on rows ``x`` (N, features); ``penalty`` is added to the mean squared error.

        drawn: a further term, of what codes decode to that are drawn from a normal with the
        moments of the rows' own.
        settings: ``batch_size``, ``lr`` and ``hardware`` of `wsl.training.RandomRows`.
        """
        self.start(x)
        how, rng = RandomRows(**settings), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(self.parameters(), how.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, how.lr, total_steps=steps + 1, pct_start=0.1
        )
        with how.descent(self, optimizer, schedule) as descent:
            rows = x.to(descent.device)
            descent.run(
                lambda _: self._step(
                    rows[how.draw(len(rows), rng)], penalty=penalty, drawn=drawn, rng=rng
                ),
                range(steps),
                progress=progress,
            )
        self._normalise(x)
        return self

    def start(self, x: Tensor) -> None:
        """What is read off the rows before the first step; most codes read nothing."""

    def _step(
        self,
        rows: Tensor,
        *,
        penalty: Penalty | None,
        drawn: DrawnTerm | None,
        rng: torch.Generator,
    ) -> Tensor:
        loss = self.loss(rows, penalty, rng)
        if drawn is None:
            return loss
        with torch.no_grad():
            codes = self.raw(rows)
        noise = torch.randn(drawn.count, codes.shape[1], generator=rng).to(codes)
        z = codes.mean(0) + codes.std(0, correction=0) * noise
        return loss + drawn.loss(self.decoder(z), rng)

    @torch.no_grad()
    def _normalise(self, x: Tensor) -> None:
        codes = self.raw(x)
        self.center.copy_(codes.mean(0))
        self.scale.copy_(codes.std(0, correction=0).clamp_min(1e-6))


def mlp(enter: int, hidden: int, leave: int) -> list[nn.Module]:
    """Layers of an encoder or a decoder."""
    return [
        nn.Linear(enter, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, leave),
    ]
