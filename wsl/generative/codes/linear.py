"""Linear codes of weights: principal components, and no code at all.

    z = V^T (x - m) / s,   x' = V s z + m

V holds the leading right singular vectors of the training rows. PCA as a code: Gupta et al. (2026),
arXiv 2601.05052. Kept whole, N rows are N points at one distance from each other, from which
nothing can be learned but the rows: components need to be few beside the members.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.codes.code import Penalty


class WholeVector(nn.Module):
    """Vectors (n, features) as they are."""

    trains: ClassVar[bool] = False

    def __init__(self, features: int) -> None:
        super().__init__()
        self.latent, self.config = features, {"features": features}

    def fit(  # noqa: D102
        self,
        x: Tensor,  # noqa: ARG002 - the interface of codes
        *,
        steps: int = 1,  # noqa: ARG002
        penalty: Penalty | None = None,  # noqa: ARG002
        seed: int = 0,  # noqa: ARG002
        progress: Progress | None = None,  # noqa: ARG002
    ) -> WholeVector:
        return self

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        return x

    def decode(self, z: Tensor) -> Tensor:  # noqa: D102
        return z


class WeightPCA(nn.Module):
    """The best linear code: principal components, exact where ``latent`` reaches the rows' rank."""

    trains: ClassVar[bool] = False

    def __init__(self, features: int, latent: int = 64) -> None:
        super().__init__()
        self.latent, self.config = latent, {"features": features, "latent": latent}
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
                f"have no more than {most} components; choose a latent of {most} or less"
            )
        self.center.copy_(x.mean(0))
        _, singular, components = torch.linalg.svd(x - self.center, full_matrices=False)
        self.components.copy_(components[:latent])
        self.scale.copy_((singular[:latent] / len(x) ** 0.5).clamp_min(1e-6))
        if progress is not None:
            progress(steps, 0.0)
        return self
