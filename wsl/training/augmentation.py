"""`WeightAugmentation`: what is done to training checkpoints before a functional sees them.

    theta <- augment(theta)
    theta <- lambda theta_i + (1 - lambda) theta_j
    loss = lambda loss(y_i) + (1 - lambda) loss(y_j)

Mixing losses instead of targets serves labels and scores alike, and is the same for a loss linear
in the target, which both of ours are. Zhang et al. (2018), arXiv 1710.09412; Shamsian et al.
(2024), arXiv 2402.04081. Validation and test members are never touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsl.augment import (
    Alignment,
    Augmentation,
    Compose,
    Dropout,
    GaussianNoise,
    MixUp,
    QuantileDropout,
    RandomPermutation,
    Rotate,
    Stretch,
    Translate,
    first_layer,
)
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints


@dataclasses.dataclass(frozen=True)
class WeightAugmentation:
    """Augmentation and MixUp of a training run; every default is off.

    mixup: "direct", "randomised" or "aligned"; a batch is mixed with ``probability``, by
    lambda ~ Beta(alpha, alpha).
    odd: groups with an odd activation (sin, tanh), whose units aligned MixUp may negate.
    importance: see `Alignment.fit`.
    noise, dropout, quantile: strengths of the three data-agnostic augmentations.
    permutation: random group elements.
    rotate (degrees), stretch (largest change of scale), translate: of the input of an implicit
    representation.
    """

    mixup: Literal["direct", "randomised", "aligned"] | None = None
    alpha: float = 1.0
    probability: float = 1.0
    odd: tuple[str, ...] = ()
    importance: Mapping[str, float] | None = None
    noise: float = 0.0
    dropout: float = 0.0
    quantile: float = 0.0
    permutation: bool = False
    rotate: float = 0.0
    stretch: float = 0.0
    translate: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "odd", tuple(self.odd))
        object.__setattr__(self, "importance", dict(self.importance or {}))
        if self.mixup not in (None, "direct", "randomised", "aligned"):
            raise ValueError(
                f"variety.mixup is '{self.mixup}'; choose null, direct, randomised or aligned"
            )

    @property
    def moves_inputs(self) -> bool:
        """Whether the functions themselves change, not only the weights that give them."""
        return bool(self.rotate or self.stretch or self.translate)

    def prepare(self, zoo: Checkpoints, rows: np.ndarray) -> Prepared:
        """What needs the zoo: names of its first layer, and the alignment of training ``rows``."""
        alignment = None
        if self.mixup == "aligned":
            theta, _ = zoo.__getitems__(rows)
            alignment = Alignment.fit(zoo.spec, theta, odd=self.odd, importance=self.importance)
        return Prepared(self, self._augmentation(zoo.spec), self._mixup(zoo.spec), alignment)

    def _mixup(self, spec: PermutationSpec) -> MixUp | None:
        if self.mixup is None:
            return None
        return (
            MixUp.randomised(spec, self.alpha) if self.mixup == "randomised" else MixUp(self.alpha)
        )

    def _augmentation(self, spec: PermutationSpec) -> Augmentation:
        chosen = self._of_inputs(spec) if self.moves_inputs else []
        chosen += [GaussianNoise(self.noise)] if self.noise else []
        chosen += [Dropout(self.dropout)] if self.dropout else []
        chosen += [QuantileDropout(self.quantile)] if self.quantile else []
        chosen += [RandomPermutation(spec)] if self.permutation else []
        return Compose(*chosen)

    def _of_inputs(self, spec: PermutationSpec) -> list[Augmentation]:
        weight, bias = first_layer(spec)
        chosen: list[Augmentation] = []
        chosen += [Rotate(weight, self.rotate)] if self.rotate else []
        chosen += [Stretch(weight, 1 - self.stretch, 1 + self.stretch)] if self.stretch else []
        chosen += [Translate(weight, bias, self.translate)] if self.translate else []
        return chosen


Variety = WeightAugmentation  # its first name, and that of the recipe's key
NONE = WeightAugmentation()
"""Checkpoints as they are."""


class Batch(NamedTuple):
    """Weights for the functional, and how the loss is made of two.

    ``part`` says which rows of the batch the weights are; codes and metadata are of the whole.
    """

    params: Params
    weight: Tensor | None = None
    partner: Tensor | None = None
    part: slice = slice(None)

    def cut(self, part: slice) -> Batch:
        """These rows of the batch, whose partners may be others."""
        weight, partner = (None if t is None else t[part] for t in (self.weight, self.partner))
        params = {name: tensor[part] for name, tensor in self.params.items()}
        return Batch(params, weight, partner, part)

    def mix(self, codes: Tensor) -> Tensor:
        """Codes (batch, width) of columns, mixed as the weights are."""
        own = codes[self.part]
        if self.weight is None or self.partner is None:
            return own
        return torch.lerp(codes[self.partner], own, self.weight.to(codes).unsqueeze(1))

    def loss(self, objective: Objective, outputs: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        """Mean loss of the rows."""
        own = objective.losses(outputs, {name: t[self.part] for name, t in metadata.items()})
        if self.weight is None or self.partner is None:
            return own.mean()
        other = objective.losses(outputs, {name: t[self.partner] for name, t in metadata.items()})
        return torch.lerp(other, own, self.weight.to(own)).mean()


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A `WeightAugmentation` for one zoo."""

    settings: WeightAugmentation
    augmentation: Augmentation
    mixup: MixUp | None
    alignment: Alignment | None

    @property
    def draws(self) -> bool:
        """Whether rows are drawn for or mixed, so that a part of a batch needs all of it."""
        how = self.settings
        noisy = how.noise or how.dropout or how.quantile or how.permutation or how.moves_inputs
        return bool(noisy or self.mixup)

    def __call__(self, params: Params, where: Tensor, generator: torch.Generator) -> Batch:
        """Augment and mix the checkpoints at positions ``where`` of the training rows."""
        if self.alignment is not None:
            params = self.alignment(params, where)
        params = self.augmentation(params, generator)
        if (
            self.mixup is None
            or len(where) < 2
            or float(torch.rand((), generator=generator)) >= self.settings.probability
        ):
            return Batch(params)
        return Batch(*self.mixup(params, generator))
