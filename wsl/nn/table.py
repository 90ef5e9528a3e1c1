"""The table of functionals: the names of recipes and the networks that they build.

One row for each recipe of ``models/`` that builds a functional. The table drives the laws of the
family in the tests and the choices of the command line; a network of another package needs no row,
since a recipe names it by ``_target_``. PyTorch Geometric is not loaded by the row that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wsl.nn.baselines import FlatMLP, StatBoost, StatNet
from wsl.nn.editors import EquivariantNet, FlatEdit, NFNEdit
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
)

FUNCTIONALS: Mapping[str, type[Functional]] = MappingProxyType(
    {
        "dwsnet": DWSNet,
        "equivariant_net": EquivariantNet,
        "flat_edit": FlatEdit,
        "flat_mlp": FlatMLP,
        "graph_metanetwork": GraphMetanetwork,
        "nfn": NFN,
        "nfn_edit": NFNEdit,
        "nft": NFT,
        "nft_edit": EquivariantNet,
        "probenet": ProbeNet,
        "scalegmn": ScaleGMN,
        "stat_boost": StatBoost,
        "statnet": StatNet,
        "unf": UNF,
        "weight_tokens": WeightTokens,
    }
)
"""Names of recipes to classes; two recipes may build one class with other hyper-parameters."""
