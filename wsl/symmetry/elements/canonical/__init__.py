"""Canonical forms: of all weights that symmetries of units relate, one representative.

canonical_scales    every unit has incoming weights of rms 1
balanced_scales     incoming and outgoing weights of equal norm
canonical_signs     no negative bias
canonical_phases    biases within a quarter turn of zero
"""

from wsl.symmetry.elements.canonical.balanced import balanced_scales
from wsl.symmetry.elements.canonical.declared import with_units
from wsl.symmetry.elements.canonical.phases import CanonicalPhases, canonical_phases
from wsl.symmetry.elements.canonical.scales import (
    CanonicalScales,
    canonical_scales,
    typical_sizes,
)
from wsl.symmetry.elements.canonical.signs import bias_of, bias_signs, canonical_signs
from wsl.symmetry.elements.canonical.unit_axis import unit_index

__all__ = [
    "CanonicalPhases",
    "CanonicalScales",
    "balanced_scales",
    "bias_of",
    "bias_signs",
    "canonical_phases",
    "canonical_scales",
    "canonical_signs",
    "typical_sizes",
    "unit_index",
    "with_units",
]
