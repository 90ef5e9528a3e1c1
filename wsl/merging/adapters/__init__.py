"""Low-rank adapters as values: read, added, scaled, compared, compressed, applied, all exactly.

>>> import torch
>>> eye = torch.eye(2)
>>> one = Adapter({"w": LowRank(eye[:, :1], eye[:1], 1.0, (2, 2))})
>>> two = Adapter({"w": LowRank(eye[:, 1:], eye[1:], 1.0, (2, 2))})
>>> (0.5 * one + 0.5 * two).changes["w"].dense().tolist()
[[0.5, 0.0], [0.0, 0.5]]
>>> one.inner(two), one.apply({"w": torch.zeros(2, 2)}).params["w"].tolist()
(0.0, [[1.0, 0.0], [0.0, 0.0]])
"""

from wsl.merging.adapters.adapter import Adapter, combine, cosines
from wsl.merging.adapters.applying import Applied
from wsl.merging.adapters.finding import is_adapter
from wsl.merging.adapters.lowrank import LowRank, total
from wsl.merging.adapters.nulls import mean_adapter, random_like
from wsl.merging.adapters.spaces import CompressThenMerge, CoreSpace, KnOTS, merge_adapters

__all__ = [
    "Adapter",
    "Applied",
    "CompressThenMerge",
    "CoreSpace",
    "KnOTS",
    "LowRank",
    "combine",
    "cosines",
    "is_adapter",
    "mean_adapter",
    "merge_adapters",
    "random_like",
    "total",
]
