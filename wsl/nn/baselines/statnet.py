"""`StatNet`: statistics of each tensor into a multilayer perceptron.

    s_t = (mean, variance, quantiles 0, 25, 50, 75, 100 %) of tensor t
    f(theta) = MLP(s_1, ..., s_T)

Unterthiner et al. (2020), Predicting Neural Network Accuracy from Weights, arXiv 2002.11448.
Invariant to more than the symmetry: any rearrangement of the entries inside a tensor leaves it
unchanged, so it cannot see how weights are wired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, head
from wsl.symmetry import PermutationSpec

STATISTICS = 7
"""Numbers per tensor."""


def weight_statistics(params: Mapping[str, Tensor]) -> Tensor:
    """Seven numbers of each of T tensors (batch, *shape): (batch, 7 T).

    Mean, variance (of the population) and quantiles 0, 25, 50, 75, 100 %.
    """
    flat = (tensor.reshape(len(tensor), -1) for tensor in params.values())
    return torch.cat([_statistics(x) for x in flat], 1)


def _statistics(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return torch.cat([x, torch.zeros_like(x), x.expand(-1, 5)], 1)
    variance, mean = torch.var_mean(x, 1, correction=0)
    return torch.cat([mean[:, None], variance[:, None], _quartiles(x)], 1)


def _quartiles(x: Tensor) -> Tensor:
    """(batch, 5) by linear interpolation; `Tensor.quantile` refuses large tensors."""
    place = torch.linspace(0, x.shape[1] - 1, 5, device=x.device, dtype=x.dtype)
    low = place.long()
    ranked = x.sort(1).values
    below, above = ranked[:, low], ranked[:, (low + 1).clamp(max=x.shape[1] - 1)]
    return below.lerp(above, place - low)


class StatNet(Functional):
    """Weights (batch, *shape) to (batch, out_features): seven numbers per tensor, then an MLP.

    It has two hidden layers.
    """

    equivariance = "invariant"

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
        self.spec, self.normalizer = spec, InputNormalizer(spec, odd=odd)
        self.head = head(STATISTICS * len(spec.axes), hidden, hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        return self.head(weight_statistics(self.normalizer(params)))
