"""Starting weights for training."""

from wsl.generative.starts.initialize import initialize
from wsl.generative.starts.initializers import (
    SEEDS_APART,
    DefaultStart,
    GaussianStart,
    GeneratedStart,
    MeanStart,
    NoiseStart,
    RetrievalStart,
    RoundTripStart,
    round_trip,
    starting_weights,
)

INITIALIZERS = {
    "generated": GeneratedStart,
    "default_init": DefaultStart,
    "retrieval": RetrievalStart,
    "noise": NoiseStart,
    "gaussian": GaussianStart,
    "mean": MeanStart,
    "round_trip": RoundTripStart,
}
"""Every initialiser by its name."""

__all__ = [
    "INITIALIZERS",
    "SEEDS_APART",
    "DefaultStart",
    "GaussianStart",
    "GeneratedStart",
    "MeanStart",
    "NoiseStart",
    "RetrievalStart",
    "RoundTripStart",
    "initialize",
    "round_trip",
    "starting_weights",
]
