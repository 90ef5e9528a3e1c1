"""The proof: run the network in float64 before and after an element, and compare."""

from wsl.symmetry.verify.outputs import tensors_of
from wsl.symmetry.verify.units import UnitVerification, verify_units
from wsl.symmetry.verify.verify import Verification, verify

__all__ = [
    "UnitVerification",
    "Verification",
    "tensors_of",
    "verify",
    "verify_units",
]
