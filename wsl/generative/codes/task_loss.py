"""What decoded networks make of labelled data, as a term to train by: the loss of their own task.

    L(theta_1 ... theta_n)  =  (1 / n) sum_i (1 / M) sum_m CE(f_{theta_i}(x_m), y_m)

`Behaviour` holds a decoded network to the one that was encoded; this asks whether it works, which
can be asked of drawn codes too, and those are what a generator is for. Where members of different
seeds have no basin in common, means and components of them are networks of nothing, and function
has to be in the loss: Ha et al. (2016), arXiv 1609.09106; Soro et al. (2024), arXiv 2402.18153.

Batch norm: by the statistics of the batch where networks are recalibrated after the draw, so that
recalibration is part of what is trained; else by those among the weights, which gradients reach.
Not promised: that decoded networks differ. Two that solve the task alike cost the same as two that
do not.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.codes.norms import with_open_norms
from wsl.params import call


class TaskLoss:
    """Cross entropy of stacked weights (n, ...) on the training data of their task.

    inputs: (N, *shape). labels: (N,), classes. Test data do not belong here.
    batch_size: data that are run at each step, drawn anew. networks: at most so many are run.
    weight: factor of the term against the mean squared error of standardised weights; 0 leaves it
    out. measured: batch norm uses the statistics of the batch, not those among the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        *,
        batch_size: int = 64,
        networks: int = 24,
        weight: float = 1.0,
        measured: bool = True,
    ) -> None:
        if labels.shape != (len(inputs),):
            raise ValueError(
                f"labels: shape {tuple(labels.shape)}, but one class for each of the "
                f"{len(inputs)} inputs is needed"
            )
        self.model = with_open_norms(model, measured=measured)
        self.inputs, self.labels = inputs, labels
        self.batch_size, self.networks, self.weight = batch_size, networks, weight

    def __call__(self, decoded: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """The weighted loss, differentiable in ``decoded``."""
        few = {name: tensor[: self.networks] for name, tensor in decoded.items()}
        rows = torch.randint(len(self.inputs), (self.batch_size,), generator=generator)
        rows = rows.to(self.inputs.device)
        said = call(self.model, few, self.inputs[rows])
        wanted = self.labels[rows].expand(len(said), -1)
        return self.weight * F.cross_entropy(said.flatten(0, 1), wanted.flatten())
