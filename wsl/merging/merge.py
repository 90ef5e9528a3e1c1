"""Merging in three steps: align the members, combine them, repair what was measured on data.

    g_k = argmax_g <theta_1, g.theta_k>          theta = method(g_1.theta_1, ..., g_K.theta_K)

Alignment before the mean: Ainsworth et al. (2023), arXiv 2209.04836. With a base the members are
aligned to it, since what they have learned is their difference from it. A method for many models
(`wsl.matching.MANY`) aligns the members to each other, and the base with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from wsl import matching
from wsl.connectivity import check_alike
from wsl.matching import JointMatch, ManyMatcher, Match, Matcher, match, match_all
from wsl.merging.computed import masked, renewed
from wsl.merging.mending import Mend
from wsl.merging.methods import Average, MergeMethod
from wsl.params import Params
from wsl.symmetry import PermutationSpec

Batches = Iterable[Tensor | tuple[Tensor, ...]]
"""Training inputs, as `reset_batch_norm` takes them."""
Repair = Mend | nn.Module | Callable[[Params], Params]
"""Steps of mending, a network whose batch-norm statistics are reset, or any function of weights."""


@dataclasses.dataclass(frozen=True, eq=False)
class Merged:
    """Merged weights, and a report of how: JSON values only.

    The report has ``method`` and ``members`` (their number); ``matcher`` (None without alignment)
    with ``objective``, ``sweeps`` and ``converged`` of each match, or of the one joint match; and
    ``repaired``.
    """

    params: Params
    report: Mapping[str, Any]


def merge(
    members: Sequence[Mapping[str, Tensor]],
    method: MergeMethod | None = None,
    *,
    base: Mapping[str, Tensor] | None = None,
    spec: PermutationSpec | None = None,
    matcher: Matcher | ManyMatcher | None = None,
    repair: Repair | None = None,
    data: Batches | None = None,
) -> Merged:
    """Merge networks of one architecture by ``method``, the plain `Average` unless told.

    spec: align the members first, by ``matcher``, to ``base`` or else to the first of them; without
    it they are taken as they are. A method of `wsl.matching.MANY` aligns all to each other.
    repair: `Mend`, or a module, whose batch-norm statistics are reset, both on inputs ``data``; or
    a function that is applied to the result.
    Masks of pruning stay zero or one, and vectors of spectral norms are made new.
    Raises ValueError for members that differ, and for what the method needs and was not given.
    """
    method = Average() if method is None else method
    _check(members, method, base=base)
    members = [masked(member) for member in members]
    if spec is None and matcher is not None:
        raise ValueError("merge: a matcher without a spec aligns nothing; give the spec too")
    aligned, evidence = members, _evidence([])
    if spec is not None:
        aligned, evidence = _aligned(spec, members, base, matcher=matcher)
    merged = renewed(method.solve(aligned, base=base), aligned)
    report = {
        "method": repr(method),
        "members": len(members),
        "matcher": None if spec is None else repr(matcher or matching.WeightMatching()),
        **evidence,
        "repaired": repair is not None,
    }
    return Merged(_repaired(merged, repair, data, members=aligned), report)


def align(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    *,
    matcher: Matcher | ManyMatcher | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> list[Params]:
    """Every member brought to ``base``, or else to the first, which stays as it is."""
    return _aligned(spec, members, base, matcher=matcher)[0]


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


def _aligned(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None,
    *,
    matcher: Matcher | ManyMatcher | None,
) -> tuple[list[Params], dict[str, list[Any]]]:
    """The members brought to the base or the first of them, which stays; and the evidence."""
    fixed = [] if base is None else [base]
    first, *others = [*fixed, *members]
    if matcher is not None and hasattr(matcher, "joint"):
        # The protocols differ in more than this, but only their names can be asked for.
        joint = match_all(spec, [first, *others], cast(ManyMatcher, matcher))
        return joint.beside([first, *others])[len(fixed) :], _joint_evidence(joint)
    found = [match(spec, first, other, cast(Matcher | None, matcher)) for other in others]
    moved = [m(theta) for m, theta in zip(found, others, strict=True)]
    return [dict(first), *moved][len(fixed) :], _evidence(found)


def _evidence(found: Sequence[Match]) -> dict[str, list[Any]]:
    return {key: [getattr(m, key) for m in found] for key in ("objective", "sweeps", "converged")}


def _joint_evidence(found: JointMatch) -> dict[str, list[Any]]:
    return {
        "objective": [found.objective],
        "sweeps": [found.rounds],
        "converged": [found.converged],
    }


def _repaired(
    merged: Params,
    repair: Repair | None,
    data: Batches | None,
    *,
    members: Sequence[Mapping[str, Tensor]],
) -> Params:
    if repair is None:
        if data is not None:
            raise ValueError("merge: data serves to repair; give the network as repair too")
        return merged
    if not isinstance(repair, nn.Module | Mend):
        return repair(merged)
    mend = Mend(repair, ["reset"]) if isinstance(repair, nn.Module) else repair
    if data is None and mend.needs_data:
        raise ValueError("merge: batch-norm statistics are measured on data; give some")
    return mend.apply(merged, members, data or ())
