"""Equivariant layers and the networks built from them; `forward` takes weights as plain dicts."""

from wsl.nn.baselines import FlatMLP, StatBoost, StatNet, weight_statistics
from wsl.nn.editors import EquivariantNet, FlatEdit, NFNEdit, UnitFeatures, UpdateNet
from wsl.nn.engine import EquivariantLinear, InvariantPool, layer_dimension
from wsl.nn.functional import Functional
from wsl.nn.functionals import (
    NFN,
    NFT,
    UNF,
    DWSNet,
    GraphMetanetwork,
    ProbeNet,
    ScaleGMN,
    WeightTokens,
    to_graph,
)
from wsl.nn.inputs import (
    Columns,
    Conditioned,
    InputNormalizer,
    Standardize,
    recalibrated,
    settled,
    shared_batch,
)
from wsl.nn.table import FUNCTIONALS
from wsl.symmetry import canonical_phases, canonical_scales, canonical_signs

__all__ = [
    "FUNCTIONALS",
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
    "Functional",
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
    "recalibrated",
    "settled",
    "shared_batch",
    "to_graph",
    "weight_statistics",
]
