"""Initial weights from a generator instead of from a distribution.

    theta_0 ~ p(theta | condition)        in place of        theta_0 ~ N(0, sigma^2)

Whether it pays is an empirical question: compare the accuracy as drawn and the steps to a target
with the default initialisation, and with the nearest member of the population, which costs nothing
to generate.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from wsl.generative.models import WeightDiffusion

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def initialize(
    model: Module,
    generator: WeightDiffusion,
    *,
    condition: Tensor | float | None = None,
    seed: int = 0,
) -> Module:
    """Fill ``model`` in place with one network drawn from ``generator`` and return it; device and
    dtype stay the model's.

    Raises `SpecError` when names or shapes of the model are not those that the generator was made
    for.
    """
    own = model.state_dict()
    generator.spec.validate(own)
    drawn = generator.sample(1, condition=condition, generator=torch.Generator().manual_seed(seed))
    for name, tensor in own.items():
        tensor.copy_(drawn[name][0])
    return model
