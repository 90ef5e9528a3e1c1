"""What the matrices of a network tell: spectra, ranks, and directions that stand out.

values.py          singular values, effective and stable rank
welore.py          ranks under one threshold
utilised.py        the rank that data use
intruders.py       directions of a fine-tuned network that its base has not
super_weights.py   single entries that carry a layer
intrinsic.py       how many random directions solve an objective
koopman.py         norm against determinant, as generalisation bounds have it
pruning.py         regimes of pruned networks
"""

from wsl.diagnostics.spectra.intrinsic import (
    IntrinsicDimension,
    SubspaceTraining,
    intrinsic_dimension,
)
from wsl.diagnostics.spectra.intruders import Intruders, intruder_dimensions
from wsl.diagnostics.spectra.koopman import KoopmanFactor, koopman_factor, koopman_factors
from wsl.diagnostics.spectra.pruning import (
    PRUNING_REGIMES,
    PruningRegime,
    linear_cka,
    magnitude_pruned,
    pruning_regime,
)
from wsl.diagnostics.spectra.super_weights import SuperWeight, super_weights
from wsl.diagnostics.spectra.utilised import UtilisedRank, utilised_rank, utilised_ranks
from wsl.diagnostics.spectra.values import (
    MatrixSpectrum,
    NetworkSpectra,
    energy_rank,
    entropy_rank,
    network_spectra,
)
from wsl.diagnostics.spectra.welore import RankCut, welore_ranks

__all__ = [
    "PRUNING_REGIMES",
    "IntrinsicDimension",
    "Intruders",
    "KoopmanFactor",
    "MatrixSpectrum",
    "NetworkSpectra",
    "PruningRegime",
    "RankCut",
    "SubspaceTraining",
    "SuperWeight",
    "UtilisedRank",
    "energy_rank",
    "entropy_rank",
    "intrinsic_dimension",
    "intruder_dimensions",
    "koopman_factor",
    "koopman_factors",
    "linear_cka",
    "magnitude_pruned",
    "network_spectra",
    "pruning_regime",
    "super_weights",
    "utilised_rank",
    "utilised_ranks",
    "welore_ranks",
]
