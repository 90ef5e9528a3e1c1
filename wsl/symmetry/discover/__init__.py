"""Find the symmetry of a network by following the axes of its weights through the exported
graph.
"""

from wsl.symmetry.discover.discovery import SpecWarning, permutation_spec
from wsl.symmetry.discover.units import symmetry_spec

__all__ = [
    "SpecWarning",
    "permutation_spec",
    "symmetry_spec",
]
