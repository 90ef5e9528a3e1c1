"""Generate weights: align, encode, diffuse; initialise from what is drawn, and check that it is new."""

from wsl.generative.autoencoder import WeightAutoencoder, WeightCode, WeightPCA
from wsl.generative.behaviour import Behaviour
from wsl.generative.canonical import Canonicalizer
from wsl.generative.diffusion import LatentDiffusion
from wsl.generative.evaluate import (
    Nearest,
    aligned_nearest,
    dispersion_ratio,
    gaussian_baseline,
    leave_one_out,
    max_iou,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
    round_trip,
)
from wsl.generative.init import initialize
from wsl.generative.pipeline import WeightDiffusion
from wsl.generative.standard import Standardizer
from wsl.generative.trial import Trial, trial

__all__ = [
    "Behaviour",
    "Canonicalizer",
    "LatentDiffusion",
    "Nearest",
    "Standardizer",
    "Trial",
    "WeightAutoencoder",
    "WeightCode",
    "WeightDiffusion",
    "WeightPCA",
    "aligned_nearest",
    "dispersion_ratio",
    "gaussian_baseline",
    "initialize",
    "leave_one_out",
    "max_iou",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
    "round_trip",
    "trial",
]
