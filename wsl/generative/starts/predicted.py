"""Starts predicted from the architecture alone, by a graph hyper-network of other architectures.

Knyazev et al. (2021), arXiv 2110.13100; see `GraphHyperNetwork`. The generator is trained first, on
the labelled data of the start and a family of architectures; its budget is four batches in each of
``steps``, which a comparison at equal budget has to say.

Not guaranteed: an answer better than chance for an architecture far from the family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from wsl.generative.models import GraphHyperNetwork
from wsl.generative.problem import Start, TrainingMembers
from wsl.generative.starts.asked import given
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class PredictedStart:
    """What a hyper-network says of the network's graph, with noise on the codes of units.

    family: the architectures that it learns from, descriptions as in ``datasets/`` or networks.
    """

    family: Sequence[Mapping[str, Any] | nn.Module] = ()
    steps: int = 1000
    batch_size: int = 64
    lr: float = 3e-3

    needs: ClassVar[frozenset[str]] = frozenset({"data", "spec"})

    @torch.enable_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Trained under the seed of ``start``; raises ValueError without a family."""
        made = GraphHyperNetwork(given(start.spec), family=self.family, seed=start.seed)
        seen = given(start.data).train
        made.fit(
            TrainingMembers({}, inputs=seen.images, labels=seen.labels),
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=start.seed,
        )
        return made.sample(n, generator=generator)
