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

from wsl.params import BATCH_NORM_BUFFERS, check_alike


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
    names = learned(a)
    before, after = ([_pair(a[n], other[n]) for n in names] for other in (b, moved))
    rows = [torch.stack([*each, torch.stack(each).sum(0)]) for each in (before, after)]
    told = [(row[:, 0].clamp(min=0).sqrt(), row[:, 1] / row[:, 2:].prod(1).sqrt()) for row in rows]
    (first, first_cosine), (second, second_cosine) = told
    return LayerDistances((*names, "total"), first, second, first_cosine, second_cosine)


def learned(params: Mapping[str, Tensor]) -> list[str]:
    """The real tensors that are not what batch norm measures."""
    return [
        name
        for name, tensor in params.items()
        if tensor.is_floating_point() and name.rpartition(".")[2] not in BATCH_NORM_BUFFERS
    ]


def matrices(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors of two axes or more as matrices, the first axis against all others."""
    return {n: params[n].double().flatten(1) for n in learned(params) if params[n].dim() > 1}


def _pair(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2, <a, b>, |a|^2 and |b|^2."""
    a, b = a.double().flatten(), b.to(a.device).double().flatten()
    return torch.stack([(a - b).square().sum(), a @ b, a @ a, b @ b]).cpu()
