"""What every generator refuses to learn from, and to be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.generative.conditions import LabelledExamples
from wsl.symmetry import PermutationSpec, SpecError


def check_members(
    spec: PermutationSpec, params: Mapping[str, Tensor], *, copied: Sequence[str] | None = None
) -> int:
    """The number of members in ``params`` (N, ...).

    copied: the tensors that are not generated and must be the integer ones; None lets any be.
    Raises `SpecError` for weights that do not fit, ValueError for NaN and infinite ones.
    """
    batch = spec.validate(params)
    if len(batch) != 1 or not batch[0]:
        raise SpecError(
            f"params: leading axes {tuple(batch)}, but one axis of members is needed; see "
            "params.stack"
        )
    for name, tensor in params.items():
        if copied is not None:
            _check_kind(name, tensor, copied=name in copied)
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"{name}: holds NaN or infinite values; leave out members that diverged"
            )
    return batch[0]


def asked_task(condition: Any, n: int, *, classes: int) -> LabelledExamples:
    """``condition`` as examples of ``n`` tasks, one for each network.

    Raises ValueError for what is no examples, or of another number of tasks or classes.
    """
    if not isinstance(condition, LabelledExamples):
        raise ValueError(
            f"condition: {type(condition).__name__}, but LabelledExamples of a task are needed"
        )
    if condition.classes != classes:
        raise ValueError(
            f"condition: {condition.classes} classes, but networks here have {classes} outputs; "
            "give examples of as many classes"
        )
    if len(condition) not in (1, n):
        raise ValueError(f"condition: {len(condition)} tasks for {n} networks; give 1 or {n}")
    return condition.of(torch.zeros(n, dtype=torch.long)) if len(condition) == 1 else condition


def _check_kind(name: str, tensor: Tensor, *, copied: bool) -> None:
    if tensor.is_floating_point() == copied:
        needed = (
            "an integer tensor, being copied" if copied else "a floating tensor, to be generated"
        )
        raise SpecError(
            f"{name}: {tensor.dtype}, but it must be {needed}; `copied` names what is not to be "
            "generated"
        )
