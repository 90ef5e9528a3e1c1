"""`DatasetEncoder`: labelled examples of a task to a vector for each class and one for the task.

    e_{c,s} = f(x_{c,s}),    h_c = W [mean_s e_{c,s}, std_s e_{c,s}]           within each class
    h_c <- h_c + g([h_c, mean_c' h_c']),   twice;   t = k(mean_c h_c)          across the classes

A set encoder in the sense of Deep Sets, Zaheer et al. (2017), arXiv 1703.06114, in the two levels
of D2NWG, Soro et al. (2024), arXiv 2402.18153, which has attention in both. Guaranteed: another
order of the shots changes nothing, another order of the classes permutes ``h`` and leaves ``t``, so
the number of shots and of classes may differ from one call to the next. f is a small network
trained with whatever uses the encoder, or the user's own extractor, which is not trained here.

`contrastive_loss` trains an encoder so that a task is near the codes of the networks trained on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions.examples import LabelledExamples

Features = Callable[[Tensor], Tensor]
"""From inputs (M, *input) to features (M, F), the same F for all."""


class TaskEmbedding(NamedTuple):
    """Of N tasks: a vector of each class (N, classes, width), and one of the task (N, width)."""

    classes: Tensor
    task: Tensor


class DatasetEncoder(nn.Module):
    """Encodes `LabelledExamples` whose inputs have ``features`` numbers.

    features: how many numbers an input, or what the ``extractor`` makes of it, has.
    extractor: the user's own, called without gradients; by default the input as a flat vector.
    """

    def __init__(
        self,
        features: int,
        *,
        width: int = 64,
        blocks: int = 2,
        extractor: Features | None = None,
    ) -> None:
        super().__init__()
        self.features, self.width = features, width
        self._extractor = (extractor,)  # in a tuple, so that a module is not taken for a part
        self.each = _perceptron(features, 2 * width, width)
        self.within = nn.Linear(2 * width, width)
        self.across = nn.ModuleList(_Across(width) for _ in range(blocks))
        self.whole = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    @property
    def extractor(self) -> Features | None:
        """The user's own features; not among the weights and not saved."""
        return self._extractor[0]

    def forward(self, examples: LabelledExamples) -> TaskEmbedding:
        """The embedding of every task; raises ValueError if the inputs have another size."""
        embedded = self.each(self._flat(examples))
        spread = embedded.std(2, correction=0)
        h = self.within(torch.cat([embedded.mean(2), spread], -1))
        for block in self.across:
            h = h + block(h)
        return TaskEmbedding(h, self.whole(h.mean(1)))

    def _flat(self, examples: LabelledExamples) -> Tensor:
        inputs = examples.inputs
        if self.extractor is None:
            found = inputs.flatten(3)
        else:
            with torch.no_grad():
                found = self.extractor(inputs.flatten(0, 2)).flatten(1)
            found = found.unflatten(0, inputs.shape[:3])
        if found.shape[-1] != self.features:
            raise ValueError(
                f"examples: {found.shape[-1]} features of each input, but the encoder was made "
                f"for {self.features}"
            )
        return found


class _Across(nn.Module):
    """What a class learns from the mean of all classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(2 * width), *_perceptron(2 * width, 2 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        return self.net(torch.cat([h, h.mean(1, keepdim=True).expand_as(h)], -1))


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def contrastive_loss(tasks: Tensor, codes: Tensor, *, temperature: float = 1.0) -> Tensor:
    """How badly task embeddings (N, d) and codes (N, d) of their networks find each other.

        L = [ CE(S, P) + CE(S^T, P) ] / 2,   S = t z^T / T,   P = softmax( (t t^T + z z^T) T / 2 )

    CLIP's loss with soft targets, as D2NWG, arXiv 2402.18153, trains its encoder against a fixed
    weight code: tasks that are alike are not pushed apart.
    Raises ValueError unless both have one shape.
    """
    if tasks.shape != codes.shape or tasks.dim() != 2:
        raise ValueError(
            f"contrastive: shapes {tuple(tasks.shape)} and {tuple(codes.shape)}, but both must be "
            "(N, d)"
        )
    scores = tasks @ codes.T / temperature
    alike = (tasks @ tasks.T + codes @ codes.T) / 2 * temperature
    targets = alike.softmax(-1)
    both = F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets.T)
    return both / 2
