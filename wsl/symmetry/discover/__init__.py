"""Find the symmetry of a network by following its weights' axes through the exported graph."""

from wsl.symmetry.discover.discovery import SpecWarning, permutation_spec
from wsl.symmetry.discover.units import symmetry_spec

__all__ = [
    "SpecWarning",
    "permutation_spec",
    "symmetry_spec",
]
