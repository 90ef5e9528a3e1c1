"""Neural functionals: networks that read weights and give numbers."""

from wsl.nn.functionals.dwsnet import DWSNet
from wsl.nn.functionals.graph import GraphMetanetwork, to_graph
from wsl.nn.functionals.nfn import NFN
from wsl.nn.functionals.nft import NFT, AttentionBlock
from wsl.nn.functionals.probe import ProbeNet
from wsl.nn.functionals.scalegmn import ScaleGMN
from wsl.nn.functionals.tokens import WeightTokens
from wsl.nn.functionals.trunk import Lift, Residual, unpack
from wsl.nn.functionals.unf import UNF

__all__ = [
    "NFN",
    "NFT",
    "UNF",
    "AttentionBlock",
    "DWSNet",
    "GraphMetanetwork",
    "Lift",
    "ProbeNet",
    "Residual",
    "ScaleGMN",
    "WeightTokens",
    "to_graph",
    "unpack",
]
