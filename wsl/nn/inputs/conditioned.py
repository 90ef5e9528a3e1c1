"""`Conditioned`: a functional that is also told columns of metadata, which weights cannot show.

    f(theta, c) = A gelu((1 + gamma(c)) * g(theta) + beta(c)) + a
    gamma, beta linear in the code c

with g any functional and c as `Columns` makes it: a learned scale and shift for each value of a
column (Perez et al. 2018, FiLM, arXiv 1709.07871). Embeddings of activations: Kofinas et al.
(2024), arXiv 2403.12143, who add them to the features of nodes; here they meet features of the
whole network, so that no functional need know of them and each keeps the invariance it claims.
gamma and beta start at zero: columns are learned to matter. Networks that give weights are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.functional import Functional
from wsl.nn.inputs.columns import Columns


class Conditioned(Functional):
    """Weights (batch, *shape) and codes (batch, width) of ``columns`` to (batch, out_features).

    ``network`` gives ``features`` numbers for each member; ``equivariance`` and ``normalizer`` are
    those of ``network``. Raises ValueError for one that gives weights.
    """

    takes_columns = True

    def __init__(
        self, network: Functional, columns: Columns, *, features: int = 32, out_features: int = 1
    ):
        super().__init__()
        if network.gives_weights:
            raise ValueError(
                f"{type(network).__name__} gives weights, and columns can only be told to "
                "functionals that give numbers; leave them out"
            )
        self.network, self.columns, self.equivariance = network, columns, network.equivariance
        # Known here without being registered, so that a state dict holds it once, as the network's.
        self.__dict__["normalizer"] = network.normalizer
        self.embed = nn.Linear(columns.width, 2 * features, bias=False)
        self.out = nn.Linear(features, out_features)
        nn.init.zeros_(self.embed.weight)

    def forward(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Raises `SpecError` for tensors that do not fit, ValueError for codes that do not."""
        z = self.network(params)
        scale, shift = self.embed(self.columns.check(codes, len(z)).to(z)).chunk(2, -1)
        return self.out(F.gelu(z + scale * z + shift))
