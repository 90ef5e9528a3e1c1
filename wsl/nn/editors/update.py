"""`UpdateNet`: the functional of a learned optimiser, from features to a number for every weight.

    h <- relu(W_l (h - mean_t h) + b_l)  for l = 1..L;      f = H(h)  or  W h + b

W_l and b_l are shared by all tensors t, and h is not centred for l = 1. H is every equivariant
affine map: Zhou, Finn, Harrison (2024), Universal Neural Functionals, arXiv 2402.05232, section 4.
With ``mixing=False`` the last map is one matrix for all weights, and tensors never meet: their
DeepSets rule, after Zaheer et al. (2017), arXiv 1703.06114. Fixed axes count as permutable, as in
the paper, so that weights fit networks of any width and the numbers of parameters are the paper's.
Its code for optimisers is not published: the counts fix the widths and one matrix for each layer;
the first layer is not centred here because that would erase what is equal in a whole tensor. The
last map starts at zero, hence f = 0. It does not tell inputs, or outputs, of the network apart by
position.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import EquivariantLinear, encoded
from wsl.nn.functional import Functional
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class UpdateNet(Functional):
    """Features (batch, *shape, in_channels) of every tensor to (batch, *shape, out_channels).

    ``hidden`` channels, ``layers`` shared layers, then all equivariant maps or, without ``mixing``,
    one matrix. Weights trained for one specification load into the network of another with the same
    tensors and other sizes, except where groups have fewer than a handful of elements. Raises
    `SpecError` for tensors that do not fit.
    """

    equivariance = "equivariant"
    gives_weights = True

    def __init__(
        self,
        spec: PermutationSpec,
        in_channels: int,
        out_channels: int = 1,
        *,
        hidden: int = 32,
        layers: int = 3,
        mixing: bool = True,
    ):
        super().__init__()
        if layers < 1:
            raise ValueError(
                f"layers={layers}: at least one layer must read the {in_channels} features"
            )
        self.spec, self.in_channels = spec, in_channels
        widths = [in_channels, *[hidden] * layers]
        pairs = enumerate(itertools.pairwise(widths))
        self.layers = nn.Sequential(*(_Shared(a, b, centred=depth > 0) for depth, (a, b) in pairs))
        self.mixing = mixing
        self.last = _zero(
            EquivariantLinear(encoded(spec), hidden, out_channels)
            if mixing
            else nn.Linear(hidden, out_channels)
        )

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """All tensors on their own, then together."""
        self.spec.validate({name: tensor.select(-1, 0) for name, tensor in params.items()})
        h = {name: self.layers(params[name]) for name in self.spec.axes}
        return (
            self.last(h) if self.mixing else {name: self.last(tensor) for name, tensor in h.items()}
        )


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class _Shared(nn.Linear):
    """relu(W (x - mean x) + b), or relu(W x + b); the mean is over all positions of a tensor."""

    def __init__(self, in_channels: int, out_channels: int, *, centred: bool):
        super().__init__(in_channels, out_channels)
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """As W x + (b - W mean x): the large tensor is read once less."""
        positions, shift = tuple(range(1, x.dim() - 1)), self.bias
        if self.centred and positions:
            shift = shift - F.linear(x.mean(positions, keepdim=True), self.weight)
        return F.linear(x, self.weight).add_(shift).relu_()
