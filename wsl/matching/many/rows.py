"""Many checkpoints brought to one reference.

    g_r = argmax_g <theta_ref, g.theta_r>          for every row r

Rows do not see each other: a row's result does not depend on which others stand beside it. With
`WeightMatching` (Ainsworth et al. 2023, arXiv 2209.04836) products are batched over rows, and only
the assignments are solved one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

from torch import Tensor

from wsl.matching.problem import check_weights, match, solve
from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import WeightMatching
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecError, check_odd


def match_many(
    spec: PermutationSpec,
    reference: Mapping[str, Tensor],
    checkpoints: Mapping[str, Tensor],
    *,
    odd: Sequence[str] | None = None,
    matcher: Matcher | None = None,
) -> Match:
    """Elements that bring stacked ``checkpoints`` (rows, *shape) to ``reference`` (no batch axes).

    The default is ``WeightMatching(seed=None)``, which visits groups in one order for all rows.
    With ``odd``, groups whose activation is odd, the element is a `SignedBatch`: signs are matched
    too. Raises `SpecError` when weights do not fit the specification, or for ``odd`` with a matcher
    that does not search signs; ValueError when a weight is NaN or infinite.
    """
    if spec.validate(reference):
        raise SpecError(
            "reference: has batch axes, but one checkpoint is needed; index or unstack it first"
        )
    check_rows(spec, checkpoints, "checkpoints", one="row")
    check_weights(spec, reference, "reference")
    check_weights(spec, checkpoints, "checkpoints")
    chosen = _with_signs(spec, matcher or WeightMatching(seed=None), odd)
    return solve(spec, reference, checkpoints, matcher=chosen)


@overload
def align(
    spec: PermutationSpec,
    members: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
) -> Params: ...


@overload
def align(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    reference: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
) -> list[Params]: ...


def align(
    spec: PermutationSpec,
    members: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    reference: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
) -> Params | list[Params]:
    """``members`` brought to ``reference``: one checkpoint, stacked ones, or a list; as `match`."""
    if isinstance(members, Mapping):
        return match(spec, reference, members, matcher)(members)
    return [match(spec, reference, member, matcher)(member) for member in members]


def mean_of(members: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Params:
    """Mean of stacked ``members``; integer tensors are those of ``like``."""
    return {name: t.mean(0) if t.is_floating_point() else like[name] for name, t in members.items()}


def check_rows(spec: PermutationSpec, params: Mapping[str, Tensor], which: str, *, one: str) -> int:
    """The number of stacked checkpoints; raises `SpecError` unless there is one axis of them."""
    if len(batch := spec.validate(params)) != 1 or not batch[0]:
        raise SpecError(
            f"{which}: leading axes {tuple(batch)}, but one axis with at least one {one} is "
            "needed; see params.stack"
        )
    return batch[0]


def _with_signs(spec: PermutationSpec, matcher: Matcher, odd: Sequence[str] | None) -> Matcher:
    check_odd(spec, odd or ())
    if odd is None:
        return matcher
    if isinstance(matcher, WeightMatching):
        return dataclasses.replace(matcher, odd=tuple(odd))
    if odd:
        raise SpecError(
            f"{type(matcher).__name__} takes no odd groups; leave out odd, or match by "
            "WeightMatching"
        )
    return matcher
