"""Generators of weights: diffusion, what it is built from, and those that learn nothing."""

from wsl.generative.models.baselines import (
    GaussianGenerator,
    MeanGenerator,
    NoiseGenerator,
    RetrievalGenerator,
    gaussian_baseline,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
)
from wsl.generative.models.diffusion import LatentDiffusion
from wsl.generative.models.weight_diffusion import WeightDiffusion

GENERATORS = {
    "weight_diffusion": WeightDiffusion,
    "retrieval": RetrievalGenerator,
    "noise": NoiseGenerator,
    "gaussian": GaussianGenerator,
    "mean": MeanGenerator,
}
"""Every generator by its name; each is made from (spec, seed=...)."""

__all__ = [
    "GENERATORS",
    "GaussianGenerator",
    "LatentDiffusion",
    "MeanGenerator",
    "NoiseGenerator",
    "RetrievalGenerator",
    "WeightDiffusion",
    "gaussian_baseline",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
]
