"""A first layer that is told what a linear classifier of the inputs would be.

    R  =  argmin_R ||X R - Y||^2 + lambda ||R||^2,     W_u  <-  W_u + sum_c a_u(h_c) R_c

X holds the inputs of a task's own examples and a one, Y is one-hot minus its mean, as in the ridge
of a last layer (Bertinetto et al., 2019, arXiv 1805.08136); lambda, and how much each unit u takes
of each class c, a linear map a of the class's embedding, are learned with the rest. What is made
from embeddings alone reaches as far as the tasks that were seen; R is made from the inputs
themselves, so that units for inputs of a kind never seen, turned by another angle, are there too.

Guaranteed: the order of the classes and of the examples does not matter.
Not for a first layer that sees less than a whole input, as a convolution does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions import AxisFeatures, LabelledExamples, TaskEmbedding, ridge
from wsl.params import Params
from wsl.symmetry import SpecError


class RidgeRows(nn.Module):
    """Adds to the first layer of ``axes.spec``; raises `SpecError` if it is no matrix of inputs.

    width: of the embeddings.
    """

    def __init__(self, axes: AxisFeatures, *, width: int) -> None:
        super().__init__()
        self.name = _first_matrix(axes)
        bias = f"{self.name.rpartition('.')[0]}.bias".lstrip(".")
        self.bias = bias if bias in axes.spec.axes else None
        units, self.inputs = axes.spec.shapes[self.name]
        self.share = nn.Linear(width, units)
        self.penalty, self.scale = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))

    def forward(self, made: Params, embedding: TaskEmbedding, support: LabelledExamples) -> Params:
        """The weights with their first layer changed."""
        share = self.scale.exp() * self.share(embedding.classes)
        change = torch.einsum("ncu,nfc->nuf", share, self.solved(support))
        found = {**made, self.name: made[self.name] + change[..., : self.inputs]}
        if self.bias is not None:
            found[self.bias] = made[self.bias] + change[..., self.inputs]
        return found

    def solved(self, support: LabelledExamples) -> Tensor:
        """R (N, inputs + 1, classes) of every task; ValueError for inputs of another size."""
        inputs, labels = support.flat()
        self._check(inputs.flatten(2).shape[-1])
        x = F.pad(inputs.flatten(2), (0, 1), value=1.0)
        targets = F.one_hot(labels[0], support.classes).to(x) - 1 / support.classes
        unit = x.square().mean((1, 2)).clamp_min(1e-12)
        return ridge(x, targets, self.penalty.exp() * unit)

    def _check(self, numbers: int) -> None:
        if numbers != self.inputs:
            raise ValueError(
                f"examples: {numbers} numbers of each input, but {self.name} reads "
                f"{self.inputs}; first='ridge' needs them to be the same"
            )


def _first_matrix(axes: AxisFeatures) -> str:
    name = next(iter(axes.inputs), "")
    if len(axes.spec.axes.get(name, ())) != 2:
        raise SpecError(
            f"first: {name or 'the only matrix'} is no matrix from inputs to hidden units, so its "
            "rows cannot be solved for; use first='learned'"
        )
    return name
