"""Generate weights: align, encode, diffuse; initialise from what is drawn, and check that it is
new.
"""

from wsl.generative.codes import (
    Behaviour,
    Canonicalizer,
    Standardizer,
    WeightAutoencoder,
    WeightCode,
    WeightPCA,
)
from wsl.generative.judge import (
    Nearest,
    Trial,
    aligned_nearest,
    dispersion_ratio,
    gaussian_baseline,
    leave_one_out,
    max_iou,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
    round_trip,
    trial,
)
from wsl.generative.models import LatentDiffusion, WeightDiffusion
from wsl.generative.starts import initialize

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
