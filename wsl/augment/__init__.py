"""Augmentation of weights: noise, input-space maps of implicit representations, exact symmetries,
and MixUp.

An augmentation is a function ``(params, generator) -> params`` of stacked checkpoints, every tensor
(batch, *shape); each row is drawn on its own, and everything random comes from the generator.
Shamsian et al. (2023, 2024), arXiv 2311.08851, 2402.04081.
"""

from wsl.augment.compose import Augmentation, Compose
from wsl.augment.inputs import Rotate, Stretch, Translate, first_layer
from wsl.augment.mixup import Alignment, Mixed, MixUp
from wsl.augment.noise import Dropout, GaussianNoise, QuantileDropout
from wsl.augment.symmetries import RandomPermutation

__all__ = [
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
    "Translate",
    "first_layer",
]
