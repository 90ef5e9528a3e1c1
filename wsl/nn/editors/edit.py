"""`Edit`: the last step of every network from weights to weights, a small change of them.

    f(theta) = theta + sigma . (s_t std_t c_t)

with c what the network says of the canonical weights sigma . theta. s is learned, one number for
each tensor t, 0.01 at first: Zhou et al. (2023), Permutation Equivariant Neural Functionals, arXiv
2302.14040, for editing; times the tensor's own deviation. With odd groups (sin, tanh) the change is
found for the weights with canonical signs sigma and carried back, so that f(sigma' . theta) =
sigma' . f(theta) bit for bit, except where a bias is zero (see `bias_signs`). Counters (integer
tensors) are handed through. It does not check that an edit is sensible.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn.inputs import InputNormalizer
from wsl.params import Params
from wsl.symmetry import PermutationSpec, bias_signs, flip_signs


class Edit(nn.Module):
    """Weights and changes of them (batch, *shape) to edited weights.

    Changes are on the scale of normalised weights. The caller's normaliser, which says deviations
    and odd groups, is given at each call, so that its owner alone saves it.
    """

    equivariance = "equivariant"

    def __init__(self, spec: PermutationSpec, scale: float = 0.01):
        super().__init__()
        self.spec, self.scale = spec, nn.Parameter(torch.full((len(spec.axes),), scale))

    def forward(
        self,
        normalizer: InputNormalizer,
        params: Mapping[str, Tensor],
        changes: Mapping[str, Tensor],
    ) -> Params:
        """Scale the changes, give them the signs of the weights, add them."""
        sizes = self.scale * normalizer.std
        scaled = {
            name: size * changes[name] for size, name in zip(sizes, self.spec.axes, strict=True)
        }
        scaled = flip_signs(self.spec, scaled, bias_signs(self.spec, params, normalizer.odd))
        return {
            n: t + scaled[n].to(t.dtype) if t.is_floating_point() else t for n, t in params.items()
        }
