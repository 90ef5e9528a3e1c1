"""The weighted average of any number of networks.

    average = sum_k w_k theta_k / sum_k w_k

Uniform soups: Wortsman et al. (2022), arXiv 2203.05482. Sums are taken in float64, so the order of
the members matters at most in the last bit of their dtype. Integer tensors (counters) are those of
the first member.

Limitations: batch-norm statistics are averaged like weights; reset them with data if you can.
Networks that are not aligned, or not fine-tuned from one start, average to one that does not work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.connectivity import check_alike
from wsl.merging.pieces import Entries, one_thread, summed, weighted
from wsl.params import Params, check_range


@dataclasses.dataclass(frozen=True)
class Average:
    """The mean of the members, uniform without ``weights``; they need not sum to one.

    >>> import torch
    >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
    >>> Average(weights=[3, 1]).solve([a, b])["w"].tolist()
    [1.0, 2.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    cut: ClassVar[str] = "entries"

    weights: Sequence[float] | None = None

    def solve(
        self,
        members: Sequence[Mapping[str, Tensor]],
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Sequence[Mapping[str, Any]] | None = None,
    ) -> Params:
        """The `average` of ``members``; ``base`` and ``statistics`` are not used."""
        return average(members, self.weights)


def average(
    members: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> Params:
    """Weighted mean of ``members``, uniform unless told; the weights need not sum to one.

    Raises ValueError for no members, members that differ in names or shapes, weights whose number
    or sum does not fit, or a mean that leaves the range of its type.
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
    mean = {name: _mean([member[name] for member in members], shares) for name in first}
    check_range(mean, *members, what="the average")
    return mean


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not (first.is_floating_point() or first.is_complex()):
        return first.clone()
    mean = torch.empty(first.shape, dtype=first.dtype, device=first.device)
    flat = (torch.view_as_real(mean) if first.is_complex() else mean).view(-1)
    entries = Entries([[tensor.to(first.device) for tensor in tensors]], wide=torch.float64)
    with one_thread():
        entries.into([flat], lambda block: summed(weighted(shares, block)))
    return mean
