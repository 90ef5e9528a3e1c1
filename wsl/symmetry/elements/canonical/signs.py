"""`canonical_signs`: one representative of the sign symmetry of odd activations.

    phi(-z) = -phi(z)   (sin, tanh)
    (W_i, b_i, W_{i+1})  ->  (s W_i, s b_i, W_{i+1} s),    s in {-1, 1}^n

leaves f unchanged. The signs are chosen so that the bias of each unit is not negative; Shamsian et
al. (2024), arXiv 2402.04081, draw them at random as an augmentation instead. Exact, and equivariant
to permutations; a unit with bias zero stays as it is, and near zero the choice jumps. The caller
declares which groups are odd: every tensor on which the group acts must be a weight or bias of a
plain linear map, not a normalisation, and the activation between them odd. Nothing here checks
that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.signed import flip_signs
from wsl.symmetry.spec import PermutationSpec, SpecError


def canonical_signs(
    spec: PermutationSpec, params: Mapping[str, Tensor], odd: Sequence[str]
) -> Params:
    """Weights (batch, *shape) with the same function and no negative bias in the groups ``odd``."""
    return flip_signs(spec, params, bias_signs(spec, params, odd))


def bias_signs(
    spec: PermutationSpec, params: Mapping[str, Tensor], odd: Sequence[str]
) -> dict[str, Tensor]:
    """For each of the groups ``odd`` the signs (batch, units) that `canonical_signs` applies."""
    return {group: torch.where(params[bias_of(spec, group)] < 0, -1.0, 1.0) for group in odd}


def bias_of(spec: PermutationSpec, group: str) -> str:
    """The first tensor whose only axis is ``group``; raises `SpecError` if there is none."""
    found = [name for name, axes in spec.annotations if axes == (((group,),),)]
    if not found:
        raise SpecError(
            f"odd group '{group}': no tensor has it as its only axis, so there is no bias to fix "
            f"its signs by; the groups are {sorted(spec.groups)}"
        )
    return found[0]
