"""`Conditioned`: a functional that is also told columns of metadata, such as the activation that
weights cannot show.

    f(theta, c) = A gelu((1 + gamma(c)) * g(theta) + beta(c)) + a,       gamma, beta linear in the
        code c

with g any functional and c as `Columns` makes it: a learned scale and shift for each value of a
column (Perez et al. 2018, FiLM, arXiv 1709.07871). Embeddings of activations: Kofinas et al.
(2024), arXiv 2403.12143, who add them to the features of nodes; here they meet features of the
whole network, so that no functional need know of them and each keeps the invariance it claims.
gamma and beta start at zero: columns are learned to matter. Networks that give weights are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.inputs.columns import Columns


class Conditioned(nn.Module):
    """Weights (batch, *shape) and codes (batch, width) of ``columns`` to (batch, out_features).

    ``network`` gives ``features`` numbers for each member. Raises ValueError for one that gives
    weights.
    """

    def __init__(
        self, network: nn.Module, columns: Columns, *, features: int = 32, out_features: int = 1
    ):
        super().__init__()
        if getattr(network, "gives_weights", False):
            raise ValueError(
                f"{type(network).__name__} gives weights, and columns can only be told to "
                "functionals that give "
                "numbers; leave them out"
            )
        self.network, self.columns = network, columns
        self.embed = nn.Linear(columns.width, 2 * features, bias=False)
        self.out = nn.Linear(features, out_features)
        nn.init.zeros_(self.embed.weight)

    @property
    def equivariance(self) -> str:
        """What the functional claims."""
        return str(self.network.equivariance)

    @property
    def normalizer(self) -> Any:
        """The functional's own, which `fit` fits."""
        return getattr(self.network, "normalizer", None)

    def forward(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Raises `SpecError` for tensors that do not fit, ValueError for codes that are missing or
        do not.
        """
        z = self.network(params)
        scale, shift = self.embed(self.columns.check(codes, len(z)).to(z)).chunk(2, -1)
        return self.out(F.gelu(z + scale * z + shift))
