"""`UNF`: universal neural functional, a network on the weights of any architecture.

    h = lift(x);      h <- h + gelu(H_l(norm(h)))  for l = 1..L
    f(theta) = MLP(pool(h), statistics(x))

with H_l all equivariant affine maps on the permutable axes and ``hidden`` channels. Zhou et al.
(2024), Universal Neural Functionals, arXiv 2402.05232. Fixed axes (kernels, inputs, outputs, gates)
are lifted into channels by the first layer, so that they are distinguished exactly and cost nothing
afterwards; this is not the paper's choice, which averages over them. Each weight enters as its
value and its signed logarithm, because trained weights span orders of magnitude; statistics of each
tensor (Unterthiner et al. 2020, arXiv 2002.11448) reach the head directly, so nothing about scale
is lost. Invariant to permutations by construction, to sign flips of the groups named in ``odd``,
and to nothing else: scale and phase symmetries are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.nn.baselines import STATISTICS, weight_statistics
from wsl.nn.engine import BlockLayout, BlockPool, validate
from wsl.nn.functional import Functional
from wsl.nn.functionals.trunk import Lift, residuals, unpack
from wsl.nn.inputs import InputNormalizer, head
from wsl.symmetry import PermutationSpec


def _check_odd(odd: Sequence[str], normalize: bool) -> None:
    if odd and not normalize:
        raise ValueError(
            "UNF: odd groups are made canonical by the normaliser; leave normalize=True"
        )


class UNF(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``hidden`` channels on every weight, ``layers`` equivariant maps, a head with ``head_hidden``
    units and ``dropout``. ``normalize=False`` leaves out the normaliser, for weights that are
    already standardised. ``odd`` names groups of units with an odd activation, whose signs are made
    canonical first: the network is then invariant to sign flips too. ``gated`` multiplies two
    equivariant maps in each layer: a weight meets the features of its units, and the pooling that
    follows is a matrix-vector product. About twice the cost.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 3,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        normalize: bool = True,
        gated: bool = False,
    ):
        super().__init__()
        _check_odd(odd, normalize)
        self.normalizer = InputNormalizer(spec, odd=odd) if normalize else None
        self.spec, layout = spec, BlockLayout(spec)
        self.spaces = layout.spaces
        self.lift = Lift(layout, hidden)
        self.layers = residuals(self.spaces, hidden, layers, gated=gated)
        self.pool = BlockPool(self.spaces, [hidden] * len(self.spaces))
        width = self.pool.features + STATISTICS * len(spec.axes)
        self.head = head(width, head_hidden, head_hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        x = self.normalizer(params) if self.normalizer is not None else params
        h = self.layers(self.lift(x))
        return self.head(torch.cat([self.pool(unpack(h, self.spaces)), weight_statistics(x)], 1))
