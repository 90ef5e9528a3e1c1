"""What a network does, as a term to train by: outputs of decoded beside those of original weights.

    behaviour(theta', theta) = sum |f_theta'(x) - f_theta(x)|^2 / sum |f_theta(x) - mean f_theta|^2

No labels are read, only what the members of the population answer. Meynent et al. (2025), arXiv
2503.17138. Running statistics of batch norm are weights like others here, and gradients reach them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.generative.codes.norms import with_open_norms
from wsl.params import call


class Behaviour:
    """Distance of two stacks of weights (n, ...) in what ``model`` answers with them.

    inputs: (N, *shape), what the population was trained on or is like it; rows are drawn from it.
    Test inputs do not belong here.
    weight: factor of the term against the mean squared error of standardised weights; more of it
    makes decoded networks better and more alike.
    """

    def __init__(
        self, model: nn.Module, inputs: Tensor, *, batch_size: int = 48, weight: float = 4.0
    ) -> None:
        self.model = with_open_norms(model)
        self.inputs, self.batch_size, self.weight = inputs, batch_size, weight

    def __call__(
        self,
        decoded: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The weighted distance, differentiable in ``decoded``."""
        rows = torch.randint(len(self.inputs), (self.batch_size,), generator=generator)
        x = self.inputs[rows.to(self.inputs.device)]
        with torch.no_grad():
            wanted = call(self.model, target, x)
            spread = (wanted - wanted.mean()).square().mean()
        return (
            self.weight
            * (call(self.model, decoded, x) - wanted).square().mean()
            / spread.clamp_min(1e-12)
        )
