"""`NFNEdit`: weights to weights through the NP or HNP layers of Zhou et al.

    h = phi(x);      h <- relu(H_l(h))  for l = 1..L;      f(theta) = theta + s . std . H(h)

Zhou et al. (2023), Permutation Equivariant Neural Functionals, arXiv 2302.14040, section on
editing; layers and features phi are those of `nfn`, the last step that of `edit`.
``fixed="encoded"`` is NP, ``fixed="exact"`` HNP. Unlike the released code: any architecture, HNP is
complete, and a sign symmetry can be named in ``odd``; no layer norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from wsl.nn.editors.edit import Edit
from wsl.nn.engine import EquivariantLinear, check_size, relu, validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, WeightFeatures
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class NFNEdit(Functional):
    """Weights (batch, *shape) to weights of the same names, shapes and types.

    Arguments as in `NFN`, ``scale`` as in `Edit`. Raises ValueError if exact layers would have more
    than ``max_parameters`` weights.
    """

    equivariance = "equivariant"
    gives_weights = True

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        fixed: str = "encoded",
        hidden: int = 16,
        layers: int = 3,
        fourier: int = 0,
        fourier_scale: float = 1.0,
        positions: int = 0,
        scale: float = 0.01,
        odd: Sequence[str] = (),
        max_parameters: int = 20_000_000,
    ):
        super().__init__()
        self.spec, self.normalizer = spec, InputNormalizer(spec, odd=odd)
        self.features = WeightFeatures(
            spec, fourier=fourier, scale=fourier_scale, positions=positions
        )
        steps = list(itertools.pairwise([self.features.channels, *[hidden] * layers, 1]))
        if fixed == "exact":
            check_size("NFNEdit", spec, steps, limit=max_parameters)
        maps = [EquivariantLinear(spec, a, b, fixed=fixed) for a, b in steps]
        self.layers, self.layout, self.edit = nn.ModuleList(maps), maps[0].layout, Edit(spec, scale)

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        pieces = self.layout.split(self.features(self.normalizer(params)))
        *layers, last = cast("Iterable[EquivariantLinear]", self.layers)
        for layer in layers:
            pieces = [relu(piece) for piece in layer.on_blocks(pieces)]
        changes = self.layout.join(last.on_blocks(pieces))
        return self.edit(
            self.normalizer, params, {name: t.squeeze(-1) for name, t in changes.items()}
        )
