"""The proof: run the network in float64 before and after an element, and compare."""

from wsl.symmetry.verify.calls import tensors_of
from wsl.symmetry.verify.copies import copied
from wsl.symmetry.verify.evidence import UnitVerification, Verification
from wsl.symmetry.verify.rotations import with_rotations
from wsl.symmetry.verify.units import verify_units
from wsl.symmetry.verify.verify import Checks, verify

__all__ = [
    "Checks",
    "UnitVerification",
    "Verification",
    "copied",
    "tensors_of",
    "verify",
    "verify_units",
    "with_rotations",
]
