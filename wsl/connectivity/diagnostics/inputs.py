"""Which singular vectors of a layer its inputs lie along.

    alignment_i = mean over inputs x of |v_i . x| / |x|,      W = sum_i s_i u_i v_i^T

Ito, Yamada, Kumagai (2025), section 4.3, arXiv 2402.04051: inputs lie along the right singular
vectors with large values, which is why agreement there is enough. Inputs are those that the network
itself gives to the layer, patches for a convolution. Of a random direction it is about
sqrt(2 / (pi d)) for d inputs: ``chance``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.connectivity.repairs import Batches, layer_inputs


@dataclasses.dataclass(frozen=True, eq=False)
class InputAlignment:
    """For each layer of ``names``: singular values from the largest on, the alignment of inputs
    with their right singular vectors, both (values,), float64, and that of a random direction.
    """

    names: tuple[str, ...]
    singular_values: tuple[Tensor, ...]
    alignment: tuple[Tensor, ...]
    chance: tuple[float, ...]


@torch.no_grad()
def input_alignment(
    model: nn.Module, params: Mapping[str, Tensor], batches: Batches
) -> InputAlignment:
    """The alignment for every linear layer and convolution of a network on ``batches``."""
    found = layer_inputs(model, params, batches)
    each = [_of_layer(*layer) for layer in found.values()]
    chance = tuple(math.sqrt(2 / (math.pi * layer.weight.shape[1])) for layer in found.values())
    return InputAlignment(
        tuple(found), tuple(s for s, _ in each), tuple(aligned for _, aligned in each), chance
    )


def _of_layer(weight: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of a weight, and the alignment of inputs, the rows, with their vectors."""
    _, s, vt = torch.linalg.svd(weight.double(), full_matrices=False)
    x = rows.double()
    length = x.norm(dim=1, keepdim=True)
    x = x[length[:, 0] > 0] / length[length[:, 0] > 0]
    return s.cpu(), (x @ vt.mT).abs().mean(0).cpu()
