"""`match`: find the permutation that brings one network's weights to another's.

    match(spec, a, b).permutation(b)  is close to  a

The boundary where inputs are checked; how the permutation is found is the matcher's affair
(`WeightMatching` unless told).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import WeightMatching
from wsl.symmetry import PermutationSpec, SpecError


def match(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    matcher: Matcher | None = None,
) -> Match:
    """Align ``b`` to ``a``, two checkpoints of the architecture of ``spec``, without batch axes.

    Devices and precisions may differ; the work is done on the device of ``a``. Same inputs, same
    result. Raises `SpecError` when the weights do not fit the specification, ValueError when a
    weight is NaN or infinite.
    """
    for which, params in (("a", a), ("b", b)):
        if batch := spec.validate(params):
            raise SpecError(
                f"{which}: has batch axes {tuple(batch)}, but match takes one checkpoint; index "
                "or unstack it first"
            )
        check_finite(params, which)
    return (matcher or WeightMatching()).solve(spec, a, b)


def check_finite(params: Mapping[str, Tensor], which: str) -> None:
    """Raise ValueError naming the first tensor that holds NaN or infinite values or complex
    numbers.
    """
    for name, tensor in params.items():
        if tensor.is_complex():
            raise ValueError(
                f"{name}: complex weights in '{which}' cannot be matched; pass real and imaginary "
                "parts as tensors"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{name}: {bad} of {tensor.numel()} values in '{which}' are NaN or infinite; "
                "leave out members that diverged before matching"
            )
