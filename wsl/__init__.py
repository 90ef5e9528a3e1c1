"""wsl: weight-space learning. Weights are data; the symmetry of an architecture is a value.

Only `params` and `symmetry` load with the package; every other room opens on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wsl import params, symmetry
from wsl.params import Params
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    SpecError,
    SymmetryElement,
    permutation_spec,
    symmetry_spec,
    verify,
)

if TYPE_CHECKING:
    from wsl import (
        augment,
        connectivity,
        generative,
        learned_optimizers,
        matching,
        merging,
        metrics,
        nn,
        plots,
        populations,
        testing,
        training,
        zoo,
    )
    from wsl.matching import Match, match
    from wsl.zoo import Zoo

__version__ = "0.1.0"

_ROOMS = (
    "augment",
    "connectivity",
    "generative",
    "learned_optimizers",
    "matching",
    "merging",
    "metrics",
    "nn",
    "plots",
    "populations",
    "testing",
    "training",
    "zoo",
)
_NAMES = {"Match": "wsl.matching", "match": "wsl.matching", "Zoo": "wsl.zoo"}

__all__ = [
    "Match",
    "Params",
    "Permutation",
    "PermutationSpec",
    "SpecError",
    "SymmetryElement",
    "Zoo",
    "augment",
    "connectivity",
    "generative",
    "learned_optimizers",
    "match",
    "matching",
    "merging",
    "metrics",
    "nn",
    "params",
    "permutation_spec",
    "plots",
    "populations",
    "symmetry",
    "symmetry_spec",
    "testing",
    "training",
    "verify",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"wsl.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'wsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
