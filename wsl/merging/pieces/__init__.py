"""What merge methods are put together from: task vectors, sparsifiers, consensus, subspaces."""

from wsl.merging.pieces.consensus import Consensus, agreed, consensus, elected_sign
from wsl.merging.pieces.entries import Blocks, Entries, one_thread, products
from wsl.merging.pieces.randomness import entries_from, uniform_like
from wsl.merging.pieces.selection import at_ranks
from wsl.merging.pieces.sparsify import (
    Density,
    band,
    check_density,
    drop_outliers,
    from_least,
    keep_largest,
    keep_random,
    keep_ranked,
    least_kept,
    within,
)
from wsl.merging.pieces.spectral import (
    Convolutions,
    as_matrix,
    leading,
    matrix_sum,
    polar,
    spectral,
)
from wsl.merging.pieces.spheres import arc, between, mixed, pair_products, tangent
from wsl.merging.pieces.tensors import (
    Members,
    Passes,
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
    "Blocks",
    "Consensus",
    "Convolutions",
    "Density",
    "Entries",
    "Members",
    "Passes",
    "Statistics",
    "Unit",
    "agreed",
    "arc",
    "as_matrix",
    "at_ranks",
    "band",
    "between",
    "check_density",
    "combined",
    "consensus",
    "drop_outliers",
    "elected_sign",
    "entries_from",
    "from_base",
    "from_least",
    "keep_largest",
    "keep_random",
    "keep_ranked",
    "leading",
    "least_kept",
    "matrix_sum",
    "mixed",
    "one_thread",
    "pair_products",
    "per_statistic",
    "polar",
    "products",
    "shares",
    "spectral",
    "summed",
    "tangent",
    "uniform_like",
    "weighted",
    "within",
]
