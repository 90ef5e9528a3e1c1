"""Augmentation of weights: noise, maps of an implicit representation's input, symmetries, MixUp.

An augmentation is a function ``(params, generator) -> params`` of stacked checkpoints, every tensor
(batch, *shape); each row is drawn on its own, and everything random comes from the generator.
Shamsian et al. (2023, 2024), arXiv 2311.08851, 2402.04081.

>>> import torch
>>> theta = {"w": torch.arange(6.0).view(3, 2)}
>>> mixed = MixUp(alpha=1.0)(theta, torch.Generator().manual_seed(0))
>>> mixed.partner.tolist(), torch.equal(mixed.params["w"], mixed.target(theta["w"]))
([1, 2, 0], True)
"""

from wsl.augment.compose import Augmentation, Compose
from wsl.augment.inputs import Rotate, Stretch, Translate, first_layer
from wsl.augment.mixup import Alignment, AlignToReference, Mixed, MixUp, ToReference
from wsl.augment.noise import Dropout, GaussianNoise, QuantileDropout
from wsl.augment.symmetries import RandomPermutation

__all__ = [
    "AlignToReference",
    "Alignment",
    "Augmentation",
    "Compose",
    "Dropout",
    "GaussianNoise",
    "MixUp",
    "Mixed",
    "QuantileDropout",
    "RandomPermutation",
    "Rotate",
    "Stretch",
    "ToReference",
    "Translate",
    "first_layer",
]
