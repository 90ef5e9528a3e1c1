"""What a learned optimiser sees of one weight: 19 numbers.

    x = (g, theta, m^0.1, m^0.5, m^0.9, m^0.99, m^0.999, m^0.9999) / rms over the tensor
    and tanh(t / tau - 1) on 11 scales tau

Metz et al. (2019), Understanding and correcting pathologies in the training of learned optimizers,
arXiv 1810.10180, whose inputs Zhou et al. (2024), arXiv 2402.05232, use. The root mean square
belongs to the tensor, so permutations are respected and the scale of a loss is not seen. Second
moments are not among the 19.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.params import Params

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
TIMESCALES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
FEATURES = 2 + len(DECAYS) + len(TIMESCALES)
_TINY = 1e-10


def features(
    weights: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    momenta: Mapping[str, Tensor],
    *,
    step: Tensor,
) -> Params:
    """Tensors (*shape, 19) of features.

    Weights and gradients are (*shape), averages of gradients (*shape, 6), the step is 0-d.
    """
    clock = _clock(step, next(iter(weights.values())))
    found = {}
    for name, theta in weights.items():
        values = torch.cat([grads[name].unsqueeze(-1), theta.unsqueeze(-1), momenta[name]], -1)
        square = values.square().mean(tuple(range(theta.dim())), keepdim=True)
        found[name] = torch.cat(
            [values * (square + _TINY).rsqrt(), clock.expand(*theta.shape, -1)], -1
        )
    return found


def _clock(step: Tensor, like: Tensor) -> Tensor:
    """How far the training is (11,), on every scale."""
    return torch.tanh(step / torch.tensor(TIMESCALES, dtype=like.dtype, device=like.device) - 1)
