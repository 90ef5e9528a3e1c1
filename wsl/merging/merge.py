"""Weighted averages of any number of networks, and merging: align all to the first, then average.

    average = sum_k w_k theta_k / sum_k w_k          merge = average over g_k.theta_k,  g_k =
        argmax_g <theta_1, g.theta_k>

Uniform soups: Wortsman et al. (2022), arXiv 2203.05482. Alignment before the mean: Ainsworth et al.
(2023), arXiv 2209.04836. Sums are taken in float64, so the order of the members matters at most in
the last bit of their dtype. Integer tensors (counters) are those of the first member. Batch-norm
statistics are averaged like weights; reset them with data if you can. Not done: weights are aligned
to the first member only, not to each other (`MergeMany` and C2M3 do); no scales, no signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from wsl.connectivity import check_alike
from wsl.matching import Matcher, match
from wsl.params import Params
from wsl.symmetry import PermutationSpec


def average(
    members: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> Params:
    """Weighted mean of ``members``, uniform unless told; the weights need not sum to one.

    Raises ValueError for no members, members that differ in names or shapes, or weights whose
    number or sum does not fit.
    """
    weights = [1.0] * len(members) if weights is None else list(weights)
    if not members or len(weights) != len(members) or sum(weights) == 0:
        raise ValueError(
            f"average: got {len(members)} members and {len(weights)} weights that sum to "
            f"{sum(weights):g}; "
            "one weight for each member and a sum other than 0 are needed"
        )
    first = members[0]
    for member in members[1:]:
        check_alike(first, member)
    shares = [weight / sum(weights) for weight in weights]
    return {name: _mean([member[name] for member in members], shares) for name in first}


def align(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    *,
    matcher: Matcher | None = None,
) -> list[Params]:
    """Every member brought to the first, which stays as it is."""
    return [
        dict(members[0]),
        *(match(spec, members[0], member, matcher).permutation(member) for member in members[1:]),
    ]


def merge(
    spec: PermutationSpec,
    members: Sequence[Mapping[str, Tensor]],
    *,
    weights: Sequence[float] | None = None,
    matcher: Matcher | None = None,
) -> Params:
    """`align`, then `average`: the mean of networks that may have been trained from different
    seeds.
    """
    return average(align(spec, members, matcher=matcher) if members else [], weights)


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    total = first.double() * shares[0]
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        total += tensor.to(total) * share
    return total.to(first)
