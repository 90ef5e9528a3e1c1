"""Merging in three steps: align the members, combine them, repair what was measured on data.

    g_k = argmax_g <theta_1, g.theta_k>          theta = method(g_1.theta_1, ..., g_K.theta_K)

Alignment before the mean: Ainsworth et al. (2023), arXiv 2209.04836. With a base the members are
aligned to it, since what they have learned is their difference from it. Not done: members are not
aligned to each other, as `MergeMany` and C2M3 do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from wsl import matching
from wsl.connectivity import check_alike, reset_batch_norm
from wsl.matching import Match, Matcher, match
from wsl.merging.computed import masked, renewed
from wsl.merging.methods import Average, MergeMethod
from wsl.params import Params
from wsl.symmetry import PermutationSpec

Batches = Iterable[Tensor | tuple[Tensor, ...]]
"""Training inputs, as `reset_batch_norm` takes them."""
Repair = nn.Module | Callable[[Params], Params]
"""A network whose batch-norm statistics are reset, or any function of the merged weights."""


@dataclasses.dataclass(frozen=True, eq=False)
class Merged:
    """Merged weights, and a report of how: JSON values only.

    The report has ``method`` and ``members`` (their number); ``matcher`` (None without alignment)
    with ``objective``, ``sweeps`` and ``converged`` of each match; and ``repaired``.
    """

    params: Params
    report: Mapping[str, Any]


def merge(
    members: Sequence[Mapping[str, Tensor]],
    method: MergeMethod | None = None,
    *,
    base: Mapping[str, Tensor] | None = None,
    spec: PermutationSpec | None = None,
    matcher: Matcher | None = None,
    repair: Repair | None = None,
    data: Batches | None = None,
) -> Merged:
    """Merge networks of one architecture by ``method``, the plain `Average` unless told.

    spec: align the members first, by ``matcher``, to ``base`` or else to the first of them; without
    it they are taken as they are.
    repair: a module, whose batch-norm statistics are then measured on ``data``, or a function that
    is applied to the result.
    Masks of pruning stay zero or one, and vectors of spectral norms are made new.
    Raises ValueError for members that differ, and for what the method needs and was not given.
    """
    method = Average() if method is None else method
    _check(members, method, base=base)
    members = [masked(member) for member in members]
    if spec is None and matcher is not None:
        raise ValueError("merge: a matcher without a spec aligns nothing; give the spec too")
    found = [] if spec is None else _matches(spec, members, base, matcher=matcher)
    aligned = [m(theta) if m else dict(theta) for m, theta in zip(found, members, strict=False)]
    merged = renewed(method.solve(aligned or members, base=base), aligned or members)
    report = {
        "method": repr(method),
        "members": len(members),
        "matcher": None if spec is None else repr(matcher or matching.WeightMatching()),
        **_evidence([m for m in found if m]),
        "repaired": repair is not None,
    }
    return Merged(_repaired(merged, repair, data), report)


def align(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    *,
    matcher: Matcher | None = None,
) -> list[Params]:
    """Every member brought to the first, which stays as it is."""
    first, *others = members
    return [dict(first), *matching.align(spec, others, first, matcher=matcher)]


def _check(
    members: Sequence[Mapping[str, Tensor]],
    method: MergeMethod,
    *,
    base: Mapping[str, Tensor] | None,
) -> None:
    name = type(method).__name__
    if not members:
        raise ValueError("merge: got 0 members; at least one is needed")
    if "base" in method.needs and base is None:
        raise ValueError(f"{name} needs a base: the weights that all members started from")
    if "statistics" in method.needs:
        raise ValueError(f"{name} needs statistics of its members; give them to its solve")
    for other in [*members[1:], *([] if base is None else [base])]:
        check_alike(members[0], other)


def _matches(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None,
    *,
    matcher: Matcher | None,
) -> list[Match | None]:
    """The match of each member; None for the reference itself, which stays as it is."""
    if base is not None:
        return [match(spec, base, member, matcher) for member in members]
    return [None, *(match(spec, members[0], member, matcher) for member in members[1:])]


def _evidence(found: Sequence[Match]) -> dict[str, list[Any]]:
    return {key: [getattr(m, key) for m in found] for key in ("objective", "sweeps", "converged")}


def _repaired(merged: Params, repair: Repair | None, data: Batches | None) -> Params:
    if repair is None:
        if data is not None:
            raise ValueError("merge: data serves to repair; give the network as repair too")
        return merged
    if not isinstance(repair, nn.Module):
        return repair(merged)
    if data is None:
        raise ValueError("merge: batch-norm statistics are measured on data; give some")
    return reset_batch_norm(repair, merged, data)
