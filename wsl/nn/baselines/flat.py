"""`FlatMLP`: all weights as one vector into a multilayer perceptron, the baseline without symmetry.

    f(theta) = MLP(ravel(x)),     x the normalised weights

It changes under permutations, as it must: a first layer on P weights has no reason to treat two
orders alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, mlp
from wsl.params import ravel
from wsl.symmetry import PermutationSpec


class FlatMLP(Functional):
    """Weights (batch, *shape) to (batch, out_features), two hidden layers."""

    equivariance = "none"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        out_features: int = 1,
        hidden: int = 128,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
    ):
        super().__init__()
        self.normalizer = InputNormalizer(spec, odd=odd)
        self.spec, count = spec, sum(math.prod(shape) for shape in spec.shapes.values())
        self.mlp = mlp(count, hidden, hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        return self.mlp(ravel(self.normalizer(params), batch_dims=1))
