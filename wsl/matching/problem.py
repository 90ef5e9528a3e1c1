"""`match`: find the group element that brings one network's weights to another's.

    match(spec, a, b)(b)  is close to  a

The boundary where inputs are checked; how the element is found is the matcher's affair
(`WeightMatching` unless told).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.result import Match, Matcher, stack_matches
from wsl.matching.solvers import WeightMatching
from wsl.params import unstack
from wsl.symmetry import PermutationSpec, SpecError


def match(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    matcher: Matcher | None = None,
) -> Match:
    """Align ``b`` to ``a``: one checkpoint, or N stacked ones (N, *shape), each as if alone.

    Devices and precisions may differ; the work is done on the device of ``a``. Same inputs, same
    result. Raises `SpecError` when the weights do not fit the specification, ValueError when a
    weight is NaN or infinite, is an integer that a group moves, or has no values yet.
    """
    if batch := spec.validate(a):
        raise SpecError(
            f"a: has batch axes {tuple(batch)}, but match takes one checkpoint; index or unstack "
            "it first"
        )
    if len(batch := spec.validate(b)) > 1 or 0 in batch:
        raise SpecError(
            f"b: has batch axes {tuple(batch)}, but match takes one checkpoint, or one axis with "
            "at least one of them"
        )
    check_weights(spec, a, "a")
    check_weights(spec, b, "b")
    return solve(spec, a, b, matcher=matcher)


@torch.no_grad()
def solve(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    matcher: Matcher | None,
) -> Match:
    """What `match` does after its checks: a stack goes row by row to a matcher that takes one."""
    matcher = matcher or WeightMatching()
    if matcher.many or not spec.validate(b):
        return matcher.solve(spec, a, b)
    return stack_matches([matcher.solve(spec, a, row) for row in unstack(b)])


def check_weights(spec: PermutationSpec, params: Mapping[str, Tensor], which: str) -> None:
    """`check_finite`, and ValueError for integers on which a group acts: quantised weights."""
    check_finite(params, which)
    moved = {place.tensor for group in spec.groups for place in spec.occurrences(group)}
    for name in (n for n in params if n in moved):
        tensor = params[name]
        if not tensor.is_floating_point() and tensor.dtype != torch.bool:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(
                f"{name}: {kind} weights in '{which}' cannot be matched, since they mean nothing "
                "without their scales; dequantise the checkpoint first"
            )


def check_finite(params: Mapping[str, Tensor], which: str) -> None:
    """Raise ValueError for NaN, infinity, complex numbers or no values, naming the first tensor."""
    for name, tensor in params.items():
        if tensor.is_meta:
            raise ValueError(
                f"{name}: is on the meta device in '{which}' and has no values; load the weights "
                "first"
            )
        if tensor.is_complex():
            raise ValueError(
                f"{name}: complex weights in '{which}' cannot be matched; pass real and imaginary "
                "parts as tensors"
            )
        # A sum is far faster than a look at every value, and is finite only if all of them are.
        if tensor.is_floating_point() and not (tensor.sum().isfinite() or tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{name}: {bad} of {tensor.numel()} values in '{which}' are NaN or infinite; "
                "leave out members that diverged before matching"
            )
