"""Codecs of fine-tuned checkpoints against their base: signs at few places, or low rank.

>>> import torch
>>> base = {"w": torch.zeros(20, 30)}
>>> tuned = {"w": torch.randn(20, 30, generator=torch.Generator().manual_seed(0))}
>>> code = coded(tuned, base, ComPEFT(density=0.05))
>>> code.bits_per_weight < 0.7, code.decode(base)["w"].unique().numel()
(True, 3)
"""

from wsl.zoo.codecs.coded import CODECS, Codec, CodedWeights, coded
from wsl.zoo.codecs.compeft import ComPEFT, expected_bits, golomb_bits
from wsl.zoo.codecs.lowrank import LowRankResidual

__all__ = [
    "CODECS",
    "Codec",
    "CodedWeights",
    "ComPEFT",
    "LowRankResidual",
    "coded",
    "expected_bits",
    "golomb_bits",
]
