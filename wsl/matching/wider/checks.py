"""What the methods of this folder take: one checkpoint at a time, never a stack."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.symmetry import PermutationSpec, SpecError


def check_single(spec: PermutationSpec, theta: Mapping[str, Tensor], which: str) -> None:
    """Raise `SpecError` for weights that do not fit, and for stacked ones."""
    if batch := spec.validate(theta):
        raise SpecError(f"{which}: has batch axes {tuple(batch)}; unstack it first")
