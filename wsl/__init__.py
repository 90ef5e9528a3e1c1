"""wsl: weight-space learning. Weights are data; the symmetry of an architecture is a value.

Every room opens on first use, so that what needs no network, such as ``wsl --help``, starts
without torch.

>>> import torch, wsl
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
>>> spec = wsl.permutation_spec(model, torch.randn(1, 3))
>>> print(spec)
h1 = 5
0.weight: h1 3
0.bias: h1
2.weight: 2 h1
2.bias: 2
>>> theta = wsl.params.from_module(model)
>>> moved = wsl.Permutation.random(spec, torch.Generator().manual_seed(0))(theta)
>>> wsl.match(spec, theta, moved).permutation(moved).keys() == theta.keys()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsl import (
        augment,
        connectivity,
        diagnostics,
        generative,
        learned_optimizers,
        matching,
        merging,
        metrics,
        nn,
        params,
        plots,
        populations,
        symmetry,
        testing,
        training,
        zoo,
    )
    from wsl.matching import Match, match
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
    from wsl.zoo import Zoo

__version__ = "0.1.0"

_NAMES = {
    "Match": "wsl.matching",
    "Params": "wsl.params",
    "Permutation": "wsl.symmetry",
    "PermutationSpec": "wsl.symmetry",
    "SpecError": "wsl.symmetry",
    "SymmetryElement": "wsl.symmetry",
    "Zoo": "wsl.zoo",
    "match": "wsl.matching",
    "permutation_spec": "wsl.symmetry",
    "symmetry_spec": "wsl.symmetry",
    "verify": "wsl.symmetry",
}
"""Where a name is that is no room."""

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
    "diagnostics",
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
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"wsl.{name}")
    raise AttributeError(f"module 'wsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
