"""Starts that are chosen among several on the validation images.

    best of k     argmin_i loss_val(theta_i),  i = 1 ... k draws of another start
    greedy soup   from the best member on: average the next one in where accuracy_val does not fall

Greedy soup: Wortsman et al. (2022), arXiv 2203.05482, algorithm 1, here of members aligned to one
reference. Both look at the validation images, never at those that score. Choosing among k costs k
evaluations, which a comparison at equal budget has to say.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from wsl.generative.problem import Initializer, Start
from wsl.generative.starts.asked import given, needs_of, starting_weights
from wsl.generative.starts.initializers import DefaultStart
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class BestOfK:
    """For each network the best of ``k`` draws of another start, by the validation loss."""

    start: Initializer = dataclasses.field(default_factory=DefaultStart)
    k: int = 8

    needs: ClassVar[frozenset[str]] = frozenset({"data"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", needs_of(type(self), self.start))

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Draws that compute nothing finite are never chosen."""
        drawn = starting_weights(self.start, start, n * self.k, generator=generator)
        loss = _validated(start, drawn)["loss"].nan_to_num(torch.inf)
        best = torch.arange(n) * self.k + loss.view(n, self.k).argmin(1)
        return {name: tensor[best] for name, tensor in drawn.items()}


@dataclasses.dataclass(frozen=True)
class SoupStart:
    """The greedy soup of the aligned good members, the best ``most`` of them; n times the same."""

    most: int = 16

    needs: ClassVar[frozenset[str]] = frozenset({"aligned", "data"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Integer tensors are those of the best member."""
        good = given(start.aligned)

        def accuracy(theta: Params) -> torch.Tensor:
            return _validated(start, theta)["accuracy"]

        order = accuracy(good).argsort(descending=True, stable=True)[: self.most]
        soup = {name: tensor[order[:1]] for name, tensor in good.items()}
        count = 1
        for i in order[1:].tolist():
            new = {name: _averaged(soup[name], good[name][i], count) for name in soup}
            if accuracy(new) >= accuracy(soup):
                soup, count = new, count + 1
        return {name: tensor.repeat(n, *[1] * (tensor.dim() - 1)) for name, tensor in soup.items()}


def _validated(start: Start, params: Params) -> dict[str, torch.Tensor]:
    """Loss and accuracy (N,) on the validation images, weights in the type of the images."""
    data = given(start.data)
    own = {k: t.to(data.val.images) if t.is_floating_point() else t for k, t in params.items()}
    return data.evaluate(start.model, own, "val")


def _averaged(mean: torch.Tensor, new: torch.Tensor, count: int) -> torch.Tensor:
    """The mean of ``count`` and one more; integers stay as they are."""
    return mean + (new - mean) / (count + 1) if mean.is_floating_point() else mean
