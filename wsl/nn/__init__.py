"""Equivariant layers and the networks built from them; `forward` takes weights as plain dicts.

A functional reads weights and claims what it does not see, here the order of hidden units:

    >>> import torch
    >>> from wsl.nn import UNF
    >>> from wsl.symmetry import Permutation, PermutationSpec
    >>> spec = PermutationSpec.parse("h = 8\\n0.weight: h 3\\n0.bias: h\\n2.weight: 2 h")
    >>> weights = {name: torch.randn(5, *shape) for name, shape in spec.shapes.items()}
    >>> network = UNF(spec, out_features=1).eval()
    >>> network(weights).shape, network.equivariance
    (torch.Size([5, 1]), 'invariant')
    >>> permuted = Permutation.random(spec, torch.Generator().manual_seed(0))(weights)
    >>> torch.allclose(network(permuted), network(weights), atol=1e-5)
    True

`FUNCTIONALS` is the table of all of them; one of another package derives from `Functional`.
"""

from wsl.nn.baselines import FlatMLP, StatBoost, StatNet, weight_statistics
from wsl.nn.editors import EquivariantNet, FlatEdit, NFNEdit, UnitFeatures, UpdateNet
from wsl.nn.engine import (
    BlockLayout,
    BlockLinear,
    EquivariantLinear,
    InvariantPool,
    layer_dimension,
)
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
    "BlockLayout",
    "BlockLinear",
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
