"""`DWSNet`: deep weight-space network with exact input and output axes.

    f(theta) = MLP(pool(H_L(... relu(H_1(x)))))

with H_l all affine maps equivariant to the hidden permutations. Navon et al. (2023), Equivariant
Architectures for Learning in Deep Weight Spaces, arXiv 2301.12780; also the HNP variant of Zhou et
al. (2023), arXiv 2302.14040. Each position of a fixed axis has features of its own, so the number
of weights grows with the square of the sizes of inputs and outputs: right for implicit neural
representations, impossible for classifiers of images, where `UNF` is. Unlike the released code,
complete for every specification: any architecture, several outputs. With ``blocks="attention"``
each layer is H_l(x) + A_l(x), A_l attention between the units of each group (see `set_attention`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.nn.engine import BlockLayout, BlockLinear, BlockPool, check_size, relu, validate
from wsl.nn.functional import Functional
from wsl.nn.functionals.set_attention import AttentionPool, UnitAttention
from wsl.nn.inputs import InputNormalizer, head
from wsl.symmetry import PermutationSpec


def _check_blocks(blocks: str) -> None:
    if blocks not in ("linear", "attention"):
        raise ValueError(f"DWSNet: blocks={blocks!r} must be 'linear' or 'attention'")


class DWSNet(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``blocks``: "linear", or "attention" with ``block_heads`` between the units of a group. Pools by
    means and maxima, and with ``heads`` > 0 by attention too. Raises ValueError for other
    ``blocks``, for ``block_heads`` that do not divide ``hidden``, or if the linear maps would have
    more than ``max_parameters`` weights.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 3,
        blocks: str = "linear",
        block_heads: int = 4,
        heads: int = 0,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        max_parameters: int = 20_000_000,
    ):
        super().__init__()
        _check_blocks(blocks)
        self.normalizer = InputNormalizer(spec, odd=odd)
        self.spec, self.layout = spec, BlockLayout(spec)
        channels, spaces = [1, *[hidden] * layers], self.layout.spaces
        check_size("DWSNet", spec, itertools.pairwise(channels), limit=max_parameters)
        widths = [self.layout.widths(width) for width in channels]
        steps = list(itertools.pairwise(widths))
        self.maps = nn.ModuleList(
            BlockLinear(spaces, spaces, in_channels=a, out_channels=b) for a, b in steps
        )
        attending = steps if blocks == "attention" else []
        self.attentions = nn.ModuleList(
            UnitAttention(spaces, a, b, hidden=hidden, heads=block_heads) for a, b in attending
        )
        self.pool = BlockPool(spaces, widths[-1])
        self.attend = AttentionPool(spaces, widths[-1], heads=heads) if heads else None
        self.head = head(self._features(), head_hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        pieces = self.layout.split_weights(self.normalizer(params))
        for layer, attention in itertools.zip_longest(self.maps, self.attentions):
            found = layer(pieces)
            if attention is not None:
                found = [own + heard for own, heard in zip(found, attention(pieces), strict=True)]
            pieces = [relu(piece) for piece in found]
        return self.head(self._pooled(pieces))

    def _features(self) -> int:
        return self.pool.features + (self.attend.features if self.attend is not None else 0)

    def _pooled(self, pieces: Sequence[Tensor]) -> Tensor:
        if self.attend is None:
            return self.pool(pieces)
        return torch.cat([self.pool(pieces), self.attend(pieces)], -1)
