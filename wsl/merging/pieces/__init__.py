"""What merge methods are put together from: task vectors, sparsifiers, consensus, subspaces."""

from wsl.merging.pieces.consensus import Consensus, agreed, consensus, elected_sign
from wsl.merging.pieces.randomness import entries_from, uniform_like
from wsl.merging.pieces.sparsify import (
    Density,
    check_density,
    drop_outliers,
    keep_largest,
    keep_random,
    keep_ranked,
)
from wsl.merging.pieces.spectral import Convolutions, as_matrix, polar, spectral
from wsl.merging.pieces.spheres import between, tangent
from wsl.merging.pieces.tensors import (
    Members,
    Statistics,
    Unit,
    combined,
    from_base,
    per_statistic,
    shares,
    summed,
    weighted,
)

__all__ = [
    "Consensus",
    "Convolutions",
    "Density",
    "Members",
    "Statistics",
    "Unit",
    "agreed",
    "as_matrix",
    "between",
    "check_density",
    "combined",
    "consensus",
    "drop_outliers",
    "elected_sign",
    "entries_from",
    "from_base",
    "keep_largest",
    "keep_random",
    "keep_ranked",
    "per_statistic",
    "polar",
    "shares",
    "spectral",
    "summed",
    "tangent",
    "uniform_like",
    "weighted",
]
