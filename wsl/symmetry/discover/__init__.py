"""Find the symmetry of a network by following its weights' axes through the exported graph."""

from wsl.symmetry.discover.discovery import Discovery, SpecWarning, discover, permutation_spec
from wsl.symmetry.discover.interpret import TRANSPARENT, mutates
from wsl.symmetry.discover.program import Program
from wsl.symmetry.discover.sources import placeholders
from wsl.symmetry.discover.units import symmetry_spec

__all__ = [
    "TRANSPARENT",
    "Discovery",
    "Program",
    "SpecWarning",
    "discover",
    "mutates",
    "permutation_spec",
    "placeholders",
    "symmetry_spec",
]
