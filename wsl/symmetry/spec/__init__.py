"""The specification as a value: its grammar, its names and keys, its exchange formats, and its cut
into blocks.
"""

from wsl.symmetry.spec.blocks import Piece, pieces
from wsl.symmetry.spec.grammar import (
    Atom,
    Axes,
    Axis,
    Segment,
    SpecError,
    format_axes,
    format_axis,
    parse_axes,
)
from wsl.symmetry.spec.keys import KeyReport
from wsl.symmetry.spec.specification import Group, Occurrence, PermutationSpec
from wsl.symmetry.spec.units import Place, UnitSymmetry, clashes

__all__ = [
    "Atom",
    "Axes",
    "Axis",
    "Group",
    "KeyReport",
    "Occurrence",
    "PermutationSpec",
    "Piece",
    "Place",
    "Segment",
    "SpecError",
    "UnitSymmetry",
    "clashes",
    "format_axes",
    "format_axis",
    "parse_axes",
    "pieces",
]
