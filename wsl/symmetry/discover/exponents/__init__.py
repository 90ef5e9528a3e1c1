"""Find scales, signs and phases of units: solve for the scaling exponents that every operation
allows.
"""

from wsl.symmetry.discover.exponents.units import symmetry_spec

__all__ = [
    "symmetry_spec",
]
