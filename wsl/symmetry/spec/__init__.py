"""The specification as a value: its grammar, names and keys, exchange formats, cut into pieces."""

from wsl.symmetry.spec.grammar import (
    Atom,
    Axes,
    Axis,
    Segment,
    SpecError,
    format_axes,
    format_axis,
    normal_axis,
    parse_axes,
)
from wsl.symmetry.spec.keys import KeyReport
from wsl.symmetry.spec.members import check_members, check_one
from wsl.symmetry.spec.parts import Group, Occurrence, groups_of
from wsl.symmetry.spec.pieces import (
    Factor,
    Piece,
    Window,
    factor_of,
    pieces,
    window_of,
    windows,
)
from wsl.symmetry.spec.specification import PermutationSpec
from wsl.symmetry.spec.units import Place, UnitSymmetry, clashes

__all__ = [
    "Atom",
    "Axes",
    "Axis",
    "Factor",
    "Group",
    "KeyReport",
    "Occurrence",
    "PermutationSpec",
    "Piece",
    "Place",
    "Segment",
    "SpecError",
    "UnitSymmetry",
    "Window",
    "check_members",
    "check_one",
    "clashes",
    "factor_of",
    "format_axes",
    "format_axis",
    "groups_of",
    "normal_axis",
    "parse_axes",
    "pieces",
    "window_of",
    "windows",
]
