"""Codes of weights: canonical coordinates, standardised tensors, autoencoders, chunks."""

from wsl.generative.codes.autoencoder import (
    D2NWG_LOSS,
    WeightAutoencoder,
    WeightVAE,
    normal_kl,
)
from wsl.generative.codes.behaviour import Behaviour
from wsl.generative.codes.canonical import Canonicalizer, Units
from wsl.generative.codes.chunks import WeightChunks
from wsl.generative.codes.code import DrawnTerm, Penalty, WeightCode
from wsl.generative.codes.corrected import CorrectedPCA
from wsl.generative.codes.linear import WeightPCA, WholeVector
from wsl.generative.codes.norms import with_open_norms
from wsl.generative.codes.recalibrate import Recalibration
from wsl.generative.codes.standard import Standardizer
from wsl.generative.codes.task_loss import TaskLoss

CODES = {
    code.__name__: code
    for code in (WeightAutoencoder, WeightVAE, WeightPCA, CorrectedPCA, WholeVector)
}
"""The codes that a file can name."""

__all__ = [
    "CODES",
    "D2NWG_LOSS",
    "Behaviour",
    "Canonicalizer",
    "CorrectedPCA",
    "DrawnTerm",
    "Penalty",
    "Recalibration",
    "Standardizer",
    "TaskLoss",
    "Units",
    "WeightAutoencoder",
    "WeightChunks",
    "WeightCode",
    "WeightPCA",
    "WeightVAE",
    "WholeVector",
    "normal_kl",
    "with_open_norms",
]
