"""Short codes for weights by an MLP autoencoder, plain or variational.

    plain:        z = (norm(E(x)) - m) / s,   x' = D(s z + m),   loss = |x' - x|^2 / P + w behaviour
    variational:  q(y|x) = N(mu(x), diag sigma(x)^2),   z = (mu(x) - m) / s
                  loss = a |x' - x|^2 / P + b (sum_i |x'_i - x_i| e^-l + P l) + c KL(q || N(0, I))

Structure is not enough: networks close in weights need not act alike, and independently trained
ones have little in common that a short code could keep. A term that compares what the decoded
network *does* makes codes of unseen networks decode to networks that work (Meynent et al., 2025,
arXiv 2503.17138). The variational loss is that of D2NWG, Soro et al. (2024), arXiv 2402.18153, with
a = 1000, b = 1, c = 1e-6 and l learned; a = 1, b = 0 is the usual one.

Codes of the training rows have zero mean and unit variance, as diffusion wants them. Not promised:
that decoded networks differ as much as the trained ones; the larger the weight of the behaviour
term, the less they do. Measure it: `dispersion_ratio`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsl.generative.codes.chunks import PLACE, ChunkDecoder, ChunkEncoder, WeightChunks, width_of
from wsl.generative.codes.code import Penalty
from wsl.generative.codes.trained import TrainedCode, mlp


class WeightAutoencoder(TrainedCode):
    """An MLP autoencoder of vectors (n, features) with ``latent`` numbers between.

    noise: deviation of what is added to codes in training; codes have norm sqrt(latent) then, so
    that it cannot be outgrown. chunk, sizes: encode chunks of so many weights by one network that
    they share, cut from tensors of these ``sizes``; see `WeightChunks`.
    """

    def __init__(
        self,
        features: int,
        latent: int = 64,
        *,
        hidden: int = 512,
        noise: float = 0.1,
        chunk: int | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        shape = _Shape(features, latent, hidden, chunk, sizes)
        super().__init__(latent, {**shape.config, "noise": noise})
        self.noise = noise
        encoder, self.decoder = shape.coders()
        self.encoder = nn.Sequential(*encoder, nn.LayerNorm(latent, elementwise_affine=False))

    def loss(self, target: Tensor, penalty: Penalty | None, rng: torch.Generator) -> Tensor:
        """The squared error, of noisy rows through noisy codes."""
        code = self.encoder(
            target + self.noise * torch.randn(target.shape, generator=rng).to(target)
        )
        decoded = self.decoder(code + self.noise * torch.randn(code.shape, generator=rng).to(code))
        loss = (decoded - target).square().mean()
        return loss if penalty is None else loss + penalty(decoded, target, rng)


class WeightVAE(TrainedCode):
    """A variational autoencoder of vectors (n, features) with ``latent`` numbers between.

    kl, squared, absolute: the factors c, a and b of the loss; see `D2NWG_LOSS`. chunk, sizes: as of
    `WeightAutoencoder`.
    """

    def __init__(
        self,
        features: int,
        latent: int = 64,
        *,
        hidden: int = 512,
        kl: float = 1e-4,
        squared: float = 1.0,
        absolute: float = 0.0,
        chunk: int | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        shape = _Shape(features, latent, hidden, chunk, sizes)
        factors = {"kl": kl, "squared": squared, "absolute": absolute}
        super().__init__(latent, {**shape.config, **factors})
        self.kl, self.squared, self.absolute = kl, squared, absolute
        encoder, self.decoder = shape.coders(moments=2)
        self.places = 1 if shape.chunks is None else sum(shape.chunks.counts)
        self.encoder = nn.Sequential(*encoder)
        self.spread = nn.Parameter(torch.zeros(()))

    def raw(self, x: Tensor) -> Tensor:
        """The mean of q(y|x)."""
        return self._moments(x)[0]

    def loss(self, target: Tensor, penalty: Penalty | None, rng: torch.Generator) -> Tensor:
        """The evidence bound, with its factors."""
        mean, logvar = self._moments(target)
        eps = torch.randn(mean.shape, generator=rng).to(mean)
        decoded = self.decoder(mean + (0.5 * logvar).exp() * eps)
        error = decoded - target
        absolute = (error.abs() * (-self.spread).exp() + self.spread).sum(1).mean()
        loss = self.squared * error.square().mean() + self.absolute * absolute
        loss = loss + self.kl * normal_kl(mean, logvar).mean()
        return loss if penalty is None else loss + penalty(decoded, target, rng)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance; of chunks, those of each stand side by side."""
        pairs = self.encoder(x).view(len(x), -1, 2, self.latent // self.places)
        mean, logvar = pairs.transpose(1, 2).flatten(2).unbind(1)
        return mean, logvar.clamp(-30.0, 20.0)


D2NWG_LOSS = {"kl": 1e-6, "squared": 1000.0, "absolute": 1.0}
"""The factors of D2NWG's public code: functools.partial(WeightVAE, **D2NWG_LOSS)."""


def normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, e^logvar) || N(0, I)) of rows (n, D), in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(-1)


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Sizes of an encoder and a decoder."""

    features: int
    latent: int
    hidden: int
    chunk: int | None
    sizes: Sequence[int] | None

    @property
    def config(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self)

    @property
    def chunks(self) -> WeightChunks | None:
        """None where the vector is encoded whole."""
        if self.chunk is None:
            return None
        return WeightChunks(tuple(self.sizes or (self.features,)), self.chunk)

    def coders(self, *, moments: int = 1) -> tuple[list[nn.Module], nn.Module]:
        """Layers to ``moments`` numbers for each number of the code, and the way back."""
        chunks, hidden = self.chunks, self.hidden
        if chunks is None:
            layers = mlp(self.features, hidden, moments * self.latent)
            return layers, nn.Sequential(*mlp(self.latent, hidden, self.features))
        width = width_of(chunks, self.latent, features=self.features)
        enter = nn.Sequential(*mlp(chunks.length + PLACE, hidden, moments * width))
        leave = nn.Sequential(*mlp(width + PLACE, hidden, chunks.length))
        return [ChunkEncoder(chunks, enter)], ChunkDecoder(chunks, leave)
