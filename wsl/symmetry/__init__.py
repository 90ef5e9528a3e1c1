"""The symmetry group of an architecture's weights: its specification, its elements, how it is found and how it is proved."""

from wsl.symmetry.batch import PermutationBatch, gather_rows
from wsl.symmetry.discover import SpecWarning, permutation_spec
from wsl.symmetry.grammar import Atom, Axes, Axis, Segment, SpecError, format_axes, format_axis, parse_axes
from wsl.symmetry.keys import KeyReport
from wsl.symmetry.permutation import Permutation
from wsl.symmetry.signed import SignedBatch, check_odd, flip_signs
from wsl.symmetry.spec import Group, Occurrence, PermutationSpec
from wsl.symmetry.units import Place, UnitSymmetry
from wsl.symmetry.units_discover import symmetry_spec
from wsl.symmetry.units_element import SymmetryElement
from wsl.symmetry.units_layout import unit_index
from wsl.symmetry.units_rescaling import Rescaling
from wsl.symmetry.units_verify import UnitVerification, verify_units
from wsl.symmetry.verify import Verification, verify

__all__ = [
    "Atom",
    "Axes",
    "Axis",
    "Group",
    "KeyReport",
    "Occurrence",
    "Permutation",
    "PermutationBatch",
    "PermutationSpec",
    "Place",
    "Rescaling",
    "Segment",
    "SignedBatch",
    "SpecError",
    "SpecWarning",
    "SymmetryElement",
    "UnitSymmetry",
    "UnitVerification",
    "Verification",
    "check_odd",
    "flip_signs",
    "format_axes",
    "format_axis",
    "gather_rows",
    "parse_axes",
    "permutation_spec",
    "symmetry_spec",
    "unit_index",
    "verify",
    "verify_units",
]
