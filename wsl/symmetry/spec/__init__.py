"""The specification as a value: its grammar, its names and keys, its exchange formats, and its cut
into blocks.
"""

from wsl.symmetry.spec.blocks import Block, Piece, Plan, Site, plan, unfold
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
from wsl.symmetry.spec.parts import Group, Occurrence
from wsl.symmetry.spec.specification import PermutationSpec
from wsl.symmetry.spec.units import Place, UnitSymmetry, clashes

__all__ = [
    "Atom",
    "Axes",
    "Axis",
    "Block",
    "Group",
    "KeyReport",
    "Occurrence",
    "PermutationSpec",
    "Piece",
    "Place",
    "Plan",
    "Segment",
    "Site",
    "SpecError",
    "UnitSymmetry",
    "clashes",
    "format_axes",
    "format_axis",
    "parse_axes",
    "plan",
    "unfold",
]
