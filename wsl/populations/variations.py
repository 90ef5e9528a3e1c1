"""Many tasks from one: class subsets in an order, quarter turns and inversion, a different one for
each member.

    member i sees images of the classes (c_1, ..., c_k) only, turned by 90 r_i degrees, as x or 1 -
    x, and c_j is label j - 1

The order of the classes permutes the labels. What a member's task is stands in its columns, so that
a generator can be conditioned on it. Each network has k outputs; chance is 1/k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import Params, unstack
from wsl.populations.classifiers import METRICS, ClassifierPopulation, Hyper
from wsl.populations.stacked import Trained
from wsl.populations.tasks import Examples, SampledBatches, logits
from wsl.zoo import ZooError


@dataclasses.dataclass(frozen=True, eq=False)
class Variations:
    """Tasks of N members: ordered ``classes`` (N, k), ``turns`` (N,) in 0..3 and ``invert`` (N,)
    bool.
    """

    classes: Tensor
    turns: Tensor
    invert: Tensor

    def of(self, members: Tensor) -> Variations:
        """The tasks of the members at these positions."""
        return Variations(self.classes[members], self.turns[members], self.invert[members])

    def to(self, device: torch.device) -> Variations:
        """The same on ``device``."""
        return Variations(self.classes.to(device), self.turns.to(device), self.invert.to(device))

    def labels(self, labels: Tensor) -> Tensor:
        """(N, M) int64 labels of the members' own tasks for the original ``labels`` (M,) or (N, M),
        -1 where there is none.
        """
        device = self.classes.device
        places = torch.full((len(self.classes), int(self.classes.max()) + 1), -1, device=device)
        places.scatter_(
            1,
            self.classes,
            torch.arange(self.classes.shape[1], device=device).expand_as(self.classes),
        )
        known = labels.expand(len(self.classes), labels.shape[-1])
        return torch.where(
            known < places.shape[1], places.gather(1, known.clamp(max=places.shape[1] - 1)), -1
        )

    def images(self, images: Tensor) -> Tensor:
        """(N, B, C, H, W), square, as the members see them."""
        rows = torch.arange(len(images), device=images.device)
        turned = torch.stack([images.rot90(k, (-2, -1)) for k in range(4)], 1)[rows, self.turns]
        return torch.where(self.invert[:, None, None, None, None], 1 - turned, turned)


@dataclasses.dataclass(frozen=True, eq=False)
class VariedBatches:
    """Batches from ``base``, which draws each member's own classes only, seen as its task says."""

    base: SampledBatches
    variations: Variations

    def of(self, members: Tensor) -> VariedBatches:
        """The batches of the members at these positions."""
        return VariedBatches(self.base.of(members), self.variations.of(members))

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, ...) and targets (N, B) of ``step``."""
        images, labels = self.base(step)
        return self.variations.images(images), self.variations.labels(labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskPopulation(ClassifierPopulation):
    """Classifiers of one architecture, each of a task of its own: ``classes`` of the task's
    classes, turned and inverted.

    The architecture has as many outputs as ``classes``. ``turns`` and ``invert`` False leave images
    as they are.
    """

    classes: int
    turns: bool = True
    invert: bool = True

    @property
    def columns(self) -> Mapping[str, type]:
        """Also the task: ``classes`` as text such as ``7,1,0``, ``turn`` in degrees,
        ``inverted``.
        """
        return {**super().columns, "classes": str, "turn": int, "inverted": bool}

    def hyper_parameters(self, members: Tensor) -> Hyper:
        """Also the task of each of ``members``."""
        ranks = torch.stack([self.draw(members, 100 + c) for c in range(10)], 1)
        order = ranks.argsort(1)[:, : self.classes]
        turns = (self.draw(members, 11) * 4).long() if self.turns else torch.zeros_like(members)
        invert = (self.draw(members, 12) < 0.5) & self.invert
        texts = [",".join(map(str, row)) for row in order.tolist()]
        return {
            **super().hyper_parameters(members),
            "classes": texts,
            "turn": 90 * turns,
            "inverted": invert,
        }

    def _check(self, data: Any) -> None:
        super()._check(data)
        if not 2 <= self.classes <= 10:
            raise ZooError(
                f"classes: {self.classes} of the task's 10 classes asked for; at least 2 are needed"
            )

    def _batches(self, data: Any, hyper: Hyper) -> VariedBatches:
        variations = _variations(hyper, data.train.images.device)
        allowed = (variations.labels(data.train.labels) >= 0).cpu()
        return VariedBatches(
            dataclasses.replace(super()._batches(data, hyper), allowed=allowed), variations
        )

    def _evaluate(
        self, data: Any, model: nn.Module, trained: Trained, hyper: Hyper
    ) -> dict[str, Tensor]:
        """Each member on its own task, over the whole splits."""
        variations, found = (
            _variations(hyper, data.train.images.device),
            {name: [] for name in METRICS},
        )
        for params in trained.snapshots:
            for split in ("train", "test"):
                scores = [
                    _scores(model, theta, getattr(data, split), variations.of(torch.tensor([i])))
                    for i, theta in enumerate(unstack(params))
                ]
                for name, values in zip(
                    ("loss", "accuracy"), zip(*scores, strict=True), strict=True
                ):
                    found[f"{split}_{name}"].append(torch.stack(values))
        return {name: torch.cat(values) for name, values in found.items()}


def _variations(hyper: Hyper, device: torch.device) -> Variations:
    classes = torch.tensor([list(map(int, text.split(","))) for text in hyper["classes"]])
    return Variations(classes, hyper["turn"] // 90, hyper["inverted"]).to(device)


def _scores(
    model: nn.Module, theta: Params, examples: Examples, own: Variations
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of one member on the images of its classes."""
    labels = own.labels(examples.labels)[0]
    mine = labels >= 0
    found = logits(model, theta, own.images(examples.images[mine][None])[0])
    return F.cross_entropy(found, labels[mine]), (found.argmax(-1) == labels[mine]).to(found).mean()
