"""`UnitFeatures`: features of every unit of a network, read from all weights it touches.

    h = trunk(x);      z_group = H h  in (batch, units, features)

with H all equivariant maps from weights to the units of each group. f(g.theta) permutes the units
of each group as g does: for pruning scores, matching by learned features, or tokens of a larger
model. Navon et al. (2023), arXiv 2301.12780, for maps between representations of hidden
permutations; the basis is that of `linear`. A family (``dk = 16 per head``) has units (head, dk).
Fixed axes have no units here.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.nn.engine import BlockLayout, BlockLinear, GroupAxis, Space, validate
from wsl.nn.functional import Functional
from wsl.nn.functionals import Lift, residuals, unpack
from wsl.nn.inputs import InputNormalizer
from wsl.symmetry import Group, PermutationSpec


class UnitFeatures(Functional):
    """Weights (batch, *shape) to a tensor for each group: (batch, size, features).

    A family has (batch, parent, size, features).
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 16,
        layers: int = 2,
        features: int = 16,
        gated: bool = False,
    ):
        super().__init__()
        self.spec, self.normalizer, layout = spec, InputNormalizer(spec), BlockLayout(spec)
        self.spaces = layout.spaces
        self.lift = Lift(layout, hidden)
        self.layers = residuals(self.spaces, hidden, layers, gated=gated)
        targets = [_units(spec, group) for group in spec.declared]
        self.map = BlockLinear(
            self.spaces,
            targets,
            in_channels=[hidden] * len(self.spaces),
            out_channels=[features] * len(targets),
        )

    def forward(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        h = unpack(self.layers(self.lift(self.normalizer(params))), self.spaces)
        return {
            group.name: self._with_batch_first(group, z)
            for group, z in zip(self.spec.declared, self.map(h), strict=True)
        }

    def _with_batch_first(self, group: Group, z: Tensor) -> Tensor:
        z = z.movedim(-2, 0)
        parent = [self.spec.groups[group.per]] if group.per else []
        return z.reshape(len(z), *parent, group.size, z.shape[-1])


def _units(spec: PermutationSpec, group: Group) -> Space:
    """The axes whose index is one unit; groups of size one have none."""
    parents = (
        (GroupAxis(group.per, spec.groups[group.per]),)
        if group.per and spec.groups[group.per] > 1
        else ()
    )
    own = (GroupAxis(group.name, group.size, 0 if parents else None),) if group.size > 1 else ()
    return parents + own
