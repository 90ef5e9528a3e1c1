"""The loss of networks that are predicted for members, each on examples of that member's own task.

    L(theta_1 ... theta_n)  =  (1 / n) sum_i (1 / M) sum_m CE( f_{theta_i}(x_{i,m}), y_{i,m} )

A diffusion that is told a task predicts the clean weights of a member from noisy ones; its error in
weights says little of what they do. This term runs the prediction on the labelled examples that the
diffusion was told, so that gradients say what they are for. `TaskLoss` is the same for a population
of one task. D2NWG, Soro et al. (2024), arXiv 2402.18153, trains for weights alone.

Not promised: that draws differ. Two predictions that solve their task alike cost the same as two
that do not.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.generative.codes import with_open_norms
from wsl.generative.conditions import LabelledExamples, task_loss


class OwnTaskLoss:
    """Cross entropy of stacked weights (n, ...), each on the task of the member it is of.

    examples: of the task of each member, (N, classes, shots, *input). shots: of each class, at most
    so many are run at each step, drawn anew. networks: at most so many are run. weight: factor of
    the term against the mean squared error of standardised weights. measured: batch norm uses the
    statistics of the examples, not those among the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: LabelledExamples,
        *,
        shots: int = 8,
        networks: int = 24,
        weight: float = 1.0,
        measured: bool = False,
    ) -> None:
        self.model = with_open_norms(model, measured=measured)
        self.examples, self.shots = examples, min(shots, examples.shots)
        self.networks, self.weight = networks, weight

    def __call__(
        self, decoded: Mapping[str, Tensor], rows: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The weighted loss, differentiable in ``decoded``; ``rows`` (n,) are the members."""
        few = {name: tensor[: self.networks] for name, tensor in decoded.items()}
        drawn = torch.randperm(self.examples.shots, generator=generator)[: self.shots]
        inputs = self.examples.inputs
        # tasks first: indices on two axes at once would pair them
        told = inputs[rows[: self.networks].to(inputs.device)][:, :, drawn.to(inputs.device)]
        return self.weight * task_loss(self.model, few, LabelledExamples(told)).mean()
