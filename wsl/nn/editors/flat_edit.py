"""`FlatEdit`: all weights as one vector to a change of them, the baseline without symmetry.

    f(theta) = theta + s . std . unravel(MLP(ravel(x))),     x the normalised weights

The MLP of Zhou et al. (2023), arXiv 2302.14040, for editing, with three hidden layers; the last
step is that of `edit`. Units that change places are edited differently, as they must be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from wsl.nn.editors.edit import Edit
from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import InputNormalizer, mlp
from wsl.params import Params, ravel, unravel
from wsl.symmetry import PermutationSpec


class FlatEdit(Functional):
    """Weights (batch, *shape) to weights of the same names, shapes and types.

    The perceptron has three layers of ``hidden`` units.
    """

    equivariance = "none"
    gives_weights = True

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 256,
        scale: float = 0.01,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
    ):
        super().__init__()
        self.spec, self.normalizer = spec, InputNormalizer(spec, odd=odd)
        self.shapes = spec.shapes
        count = sum(math.prod(shape) for shape in self.shapes.values())
        self.mlp, self.edit = mlp(count, *[hidden] * 3, count, dropout=dropout), Edit(spec, scale)

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        changes = unravel(self.mlp(ravel(self.normalizer(params), batch_dims=1)), self.shapes)
        return self.edit(self.normalizer, params, changes)
