"""How close two networks are, layer by layer, before and after one was moved.

Ito, Yamada, Kumagai (2025), section 4, arXiv 2402.04051: matching cuts the distance by 6 to 20 %
only, so distance is not why matched networks connect. Batch-norm statistics and counters do not
count. Cosines of a tensor that is zero are NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.connectivity.learned import learned
from wsl.params import check_alike


@dataclasses.dataclass(frozen=True, eq=False)
class LayerDistances:
    """Distances and cosines (tensors,) of ``names``, float64; the last name is ``total``.

    before: between a and b; after: between a and b as it was moved.
    """

    names: tuple[str, ...]
    before: Tensor
    after: Tensor
    cosine_before: Tensor
    cosine_after: Tensor


def layer_distances(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], moved: Mapping[str, Tensor]
) -> LayerDistances:
    """The distance of each tensor of ``b``, and of ``moved``, from that of ``a``."""
    check_alike(a, b)
    check_alike(a, moved)
    before, cosine_before = _compared(a, b)
    after, cosine_after = _compared(a, moved)
    return LayerDistances((*learned(a), "total"), before, after, cosine_before, cosine_after)


def _compared(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Distance and cosine of every learned tensor, and of all together in the last place."""
    each = [_pair(a[name], b[name]) for name in learned(a)]
    rows = torch.stack([*each, torch.stack(each).sum(0)])
    return rows[:, 0].clamp(min=0).sqrt(), rows[:, 1] / rows[:, 2:].prod(1).sqrt()


def matrices(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors of two axes or more as matrices, the first axis against all others."""
    return {n: params[n].double().flatten(1) for n in learned(params) if params[n].dim() > 1}


def _pair(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2, <a, b>, |a|^2 and |b|^2."""
    a, b = a.double().flatten(), b.to(a.device).double().flatten()
    return torch.stack([(a - b).square().sum(), a @ b, a @ a, b @ b]).cpu()
