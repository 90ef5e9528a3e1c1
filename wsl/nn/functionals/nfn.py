"""`NFN`: neural functional network, the NP and HNP layers of Zhou et al. as a choice of basis.

    h = phi(x);      h <- relu(H_l(h))  for l = 1..L;      f(theta) = MLP(pool(h))

NP (``fixed="encoded"``): inputs, outputs and kernel positions count as permutable and are told
apart by learned tables in every layer; 4 L^2 + 10 L - 4 maps (and 2 L constants) for an MLP of L
layers. HNP (``fixed="exact"``): hidden permutations only, 75 (+7) for [2, 32, 32, 1]. phi: Gaussian
Fourier features and positions (see `inputs.fourier`). Zhou et al. (2023), Permutation Equivariant
Neural Functionals, arXiv 2302.14040. Unlike the released code: any architecture, and HNP is
complete; with ``rank`` it is not. No layer norm, and no symmetry but permutations, or signs of the
groups named in ``odd``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from wsl.nn.engine import (
    BlockPool,
    EquivariantLinear,
    check_size,
    relu,
    validate,
)
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, WeightFeatures, head
from wsl.symmetry import PermutationSpec


class NFN(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``fixed``, ``rank``: those of `EquivariantLinear`. ``fourier`` frequencies of deviation
    ``fourier_scale`` on every weight and ``positions`` frequencies on the place of its tensor and
    on its fixed axes; 0 leaves them out. Raises ValueError if exact layers would have more than
    ``max_parameters`` weights.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        fixed: str = "encoded",
        rank: int | None = None,
        hidden: int = 16,
        layers: int = 3,
        out_features: int = 1,
        head_hidden: int = 64,
        fourier: int = 0,
        fourier_scale: float = 1.0,
        positions: int = 0,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        max_parameters: int = 20_000_000,
    ):
        super().__init__()
        self.spec, self.normalizer = spec, InputNormalizer(spec, odd=odd)
        self.features = WeightFeatures(
            spec, fourier=fourier, scale=fourier_scale, positions=positions
        )
        steps = [(self.features.channels, hidden), *[(hidden, hidden)] * (layers - 1)]
        if fixed == "exact":
            check_size("NFN", spec, steps, rank=rank, limit=max_parameters)
        maps = [EquivariantLinear(spec, a, b, fixed=fixed, rank=rank) for a, b in steps]
        self.layers, self.layout = nn.ModuleList(maps), maps[0].layout
        self.pool = BlockPool(self.layout.spaces, self.layout.widths(hidden))
        self.head = head(
            self.pool.features, head_hidden, head_hidden, out_features, dropout=dropout
        )

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        pieces = self.layout.split(self.features(self.normalizer(params)))
        for layer in cast("Iterable[EquivariantLinear]", self.layers):
            pieces = [relu(piece) for piece in layer.on_blocks(pieces)]
        return self.head(self.pool(pieces))
