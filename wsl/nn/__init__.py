"""Equivariant layers and the networks built from them; `forward` takes weights as plain dicts."""

from wsl.nn.basis import layer_dimension
from wsl.nn.columns import Columns
from wsl.nn.conditioned import Conditioned
from wsl.nn.dwsnet import DWSNet
from wsl.nn.equivariant import EquivariantNet
from wsl.nn.flat import FlatMLP
from wsl.nn.flat_edit import FlatEdit
from wsl.nn.graph import GraphMetanetwork, to_graph
from wsl.nn.head import Standardize, settled
from wsl.nn.linear import EquivariantLinear
from wsl.nn.nfn import NFN
from wsl.nn.nfn_edit import NFNEdit
from wsl.nn.nft import NFT
from wsl.nn.normalize import InputNormalizer
from wsl.nn.phases import canonical_phases
from wsl.nn.pool import InvariantPool
from wsl.nn.probe import ProbeNet
from wsl.nn.scalegmn import ScaleGMN
from wsl.nn.scales import canonical_scales
from wsl.nn.signs import canonical_signs
from wsl.nn.statboost import StatBoost
from wsl.nn.statnet import StatNet, weight_statistics
from wsl.nn.tokens import WeightTokens
from wsl.nn.unf import UNF
from wsl.nn.units import UnitFeatures
from wsl.nn.update import UpdateNet

__all__ = [
    "NFN",
    "NFT",
    "UNF",
    "Columns",
    "Conditioned",
    "DWSNet",
    "EquivariantLinear",
    "EquivariantNet",
    "FlatEdit",
    "FlatMLP",
    "GraphMetanetwork",
    "InputNormalizer",
    "InvariantPool",
    "NFNEdit",
    "ProbeNet",
    "ScaleGMN",
    "Standardize",
    "StatBoost",
    "StatNet",
    "UnitFeatures",
    "UpdateNet",
    "WeightTokens",
    "canonical_phases",
    "canonical_scales",
    "canonical_signs",
    "layer_dimension",
    "settled",
    "to_graph",
    "weight_statistics",
]
