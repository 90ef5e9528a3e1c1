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
from wsl.generative.models.hyper_network import HyperNetwork
from wsl.generative.models.latent_diffusion import LatentDiffusion
from wsl.generative.models.vector_diffusion import VectorDiffusion

GENERATORS = {
    "latent_diffusion": LatentDiffusion,
    "retrieval": RetrievalGenerator,
    "noise": NoiseGenerator,
    "gaussian": GaussianGenerator,
    "mean": MeanGenerator,
}
"""Every generator by its name; each is made from (spec, seed=...)."""

TASK_GENERATORS = {"hyper_network": HyperNetwork}
"""Those that answer for a task, asked with `LabelledExamples` and never without."""

__all__ = [
    "GENERATORS",
    "TASK_GENERATORS",
    "GaussianGenerator",
    "HyperNetwork",
    "LatentDiffusion",
    "MeanGenerator",
    "NoiseGenerator",
    "RetrievalGenerator",
    "VectorDiffusion",
    "gaussian_baseline",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
]
