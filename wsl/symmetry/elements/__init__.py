"""Elements of the symmetry group and how they act; canonical forms of signs, scales and phases."""

from wsl.symmetry.elements.action import gather_rows
from wsl.symmetry.elements.batch import PermutationBatch
from wsl.symmetry.elements.canonical import (
    CanonicalPhases,
    CanonicalScales,
    balanced_scales,
    bias_of,
    bias_signs,
    canonical_phases,
    canonical_scales,
    canonical_signs,
    typical_sizes,
    unit_index,
    with_units,
)
from wsl.symmetry.elements.element import SymmetryElement
from wsl.symmetry.elements.linear import LinearMaps, check_normal, mixing
from wsl.symmetry.elements.matrices import act_at, at_place, centred_basis, heads_of, rotary_pairs
from wsl.symmetry.elements.moments import permute_optimizer
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.elements.rescaling import Rescaling
from wsl.symmetry.elements.signed import SignedBatch, check_odd, flip_signs

__all__ = [
    "CanonicalPhases",
    "CanonicalScales",
    "LinearMaps",
    "Permutation",
    "PermutationBatch",
    "Rescaling",
    "SignedBatch",
    "SymmetryElement",
    "act_at",
    "at_place",
    "balanced_scales",
    "bias_of",
    "bias_signs",
    "canonical_phases",
    "canonical_scales",
    "canonical_signs",
    "centred_basis",
    "check_normal",
    "check_odd",
    "flip_signs",
    "gather_rows",
    "heads_of",
    "mixing",
    "permute_optimizer",
    "rotary_pairs",
    "typical_sizes",
    "unit_index",
    "with_units",
]
