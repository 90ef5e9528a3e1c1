"""The symmetry group of an architecture's weights: its specification, its elements, how it is found and how it is proved."""

from wsl.symmetry.batch import PermutationBatch, gather_rows
from wsl.symmetry.discover import permutation_spec
from wsl.symmetry.grammar import Atom, Axes, Axis, Segment, SpecError, format_axes, format_axis, parse_axes
from wsl.symmetry.permutation import Permutation
from wsl.symmetry.spec import Group, Occurrence, PermutationSpec
from wsl.symmetry.verify import Verification, verify

__all__ = [
    "Atom",
    "Axes",
    "Axis",
    "Group",
    "Occurrence",
    "Permutation",
    "PermutationBatch",
    "PermutationSpec",
    "Segment",
    "SpecError",
    "Verification",
    "format_axes",
    "format_axis",
    "gather_rows",
    "parse_axes",
    "permutation_spec",
    "verify",
]
