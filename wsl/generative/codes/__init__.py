"""Codes of weights: canonical coordinates, standardised tensors, autoencoders."""

from wsl.generative.codes.autoencoder import Penalty, WeightAutoencoder, WeightCode, WeightPCA
from wsl.generative.codes.behaviour import Behaviour
from wsl.generative.codes.canonical import Canonicalizer
from wsl.generative.codes.standard import Standardizer

__all__ = [
    "Behaviour",
    "Canonicalizer",
    "Penalty",
    "Standardizer",
    "WeightAutoencoder",
    "WeightCode",
    "WeightPCA",
]
