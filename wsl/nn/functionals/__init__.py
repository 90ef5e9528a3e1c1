"""Neural functionals: networks that read weights and give numbers."""

from wsl.nn.functionals.dwsnet import DWSNet
from wsl.nn.functionals.graph import GraphMetanetwork, to_graph
from wsl.nn.functionals.nfn import NFN
from wsl.nn.functionals.nft import NFT, attention_blocks
from wsl.nn.functionals.probe import ProbeNet
from wsl.nn.functionals.scalegmn import ScaleGMN
from wsl.nn.functionals.tokens import WeightTokens
from wsl.nn.functionals.trunk import Lift, residuals, unpack
from wsl.nn.functionals.unf import UNF

__all__ = [
    "NFN",
    "NFT",
    "UNF",
    "DWSNet",
    "GraphMetanetwork",
    "Lift",
    "ProbeNet",
    "ScaleGMN",
    "WeightTokens",
    "attention_blocks",
    "residuals",
    "to_graph",
    "unpack",
]
