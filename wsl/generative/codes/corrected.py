"""Principal components with a learned correction: a linear code whose draws are made to work.

    z = V^T (x - m) / s,   x' = V s z + m + h(z)
    loss = |x' - x|^2 / P + E_{eps ~ N(0, I)} |h(eps)|^2 / P + w L_task(theta(x'(eps)))

Draws from a Gaussian of aligned weights spread as members do, but where members of different seeds
share no basin they are networks of nothing: narrow residual ones are at chance. The correction h,
zero at first, moves each draw to weights that work, and no further: its own size is in the loss.
Without a `DrawnTerm` there is nothing to move for, and what is left is the best linear code with
what h can add of the members. Components: Gupta et al. (2026), arXiv 2601.05052; networks drawn
through the loss of their task: Ha et al. (2016), arXiv 1609.09106.

Not promised: that corrected draws do different things. The more weight the term has, the more they
agree; measure it beside the members.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsl.generative.codes.code import Penalty
from wsl.generative.codes.linear import WeightPCA
from wsl.generative.codes.trained import TrainedCode, mlp


class CorrectedPCA(TrainedCode):
    """`WeightPCA` of vectors (n, features), and an MLP with ``hidden`` units that corrects it."""

    def __init__(self, features: int, latent: int = 64, *, hidden: int = 512) -> None:
        super().__init__(latent, {"features": features, "latent": latent, "hidden": hidden})
        self.decoder: _Corrected = _Corrected(features, latent, hidden)

    def start(self, x: Tensor) -> None:
        """Read the components off the rows."""
        self.decoder.principal.fit(x)

    def raw(self, x: Tensor) -> Tensor:
        """Principal components of unit variance."""
        return self.decoder.principal.encode(x)

    def loss(self, target: Tensor, penalty: Penalty | None, rng: torch.Generator) -> Tensor:
        """The squared error, and the size of corrections of drawn codes."""
        code = self.raw(target)
        drawn = torch.randn(code.shape, generator=rng).to(code)
        decoded = self.decoder(code)
        loss = (decoded - target).square().mean()
        loss = loss + self.decoder.correction(drawn).square().mean()
        return loss if penalty is None else loss + penalty(decoded, target, rng)


class _Corrected(nn.Module):
    """V s z + m + h(z), with h zero before it is trained."""

    def __init__(self, features: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.principal = WeightPCA(features, latent)
        self.correction = nn.Sequential(*mlp(latent, hidden, features))
        for parameter in self.correction[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor) -> Tensor:
        return self.principal.decode(z) + self.correction(z)
