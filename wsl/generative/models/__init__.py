"""Generators of weights: diffusion and what it is built from."""

from wsl.generative.models.diffusion import LatentDiffusion
from wsl.generative.models.weight_diffusion import WeightDiffusion

__all__ = [
    "LatentDiffusion",
    "WeightDiffusion",
]
