"""`Trees`: sums of regression trees as tensors, which a state dict holds and any device reads.

    f_k(x) = b_k + sum_t leaf_tk(x)

At each split the left child is taken if x[feature] <= threshold, until a leaf, which is its own
child, is reached. Grown elsewhere: `grown` copies what scikit-learn's histogram gradient boosting
has fitted (Ke et al. 2017, LightGBM).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

_AT_ONCE = 1 << 22
"""Pairs of row and tree that are read at once: some 100 MB."""


class Trees(nn.Module):
    """Features (batch, F) to (batch, outputs), float64.

    Each output has ``count`` trees of at most ``leaves`` leaves. Without
    `grown`, every tree is one leaf of value 0.
    """

    baseline: Tensor
    value: Tensor
    threshold: Tensor
    feature: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, count: int, outputs: int, leaves: int) -> None:
        super().__init__()
        self.outputs = outputs
        nodes = count * outputs, 2 * leaves - 1
        itself = torch.arange(math.prod(nodes)).view(nodes)
        self.register_buffer("baseline", torch.zeros(outputs).double())
        for name in ("value", "threshold"):
            self.register_buffer(name, torch.zeros(nodes).double())
        for name, start in (("feature", 0), ("left", 1), ("right", 1)):
            self.register_buffer(name, start * itself)

    def forward(self, x: Tensor) -> Tensor:
        """Sums (batch, outputs) of leaves."""
        parts = x.to(self.value.dtype).split(max(1, _AT_ONCE // len(self.value)))
        sums = [
            reduce(self._leaves(part), "b (round k) -> b k", "sum", k=self.outputs)
            for part in parts
        ]
        return torch.cat(sums) + self.baseline

    def _leaves(self, x: Tensor) -> Tensor:
        """The value of each tree (batch, count * outputs), those of one round side by side."""
        size = self.value.shape[1]
        where = torch.arange(0, self.value.numel(), size, device=x.device).expand(len(x), -1)
        left, right, feature, threshold = (
            t.flatten() for t in (self.left, self.right, self.feature, self.threshold)
        )
        while True:
            below = x.gather(1, feature[where]) <= threshold[where]
            deeper = torch.where(below, left[where], right[where])
            if torch.equal(deeper, where):
                return self.value.flatten()[where]
            where = deeper

    def grown(self, model: Any, outputs: Sequence[int]) -> Trees:
        """Copy the trees of a fitted `HistGradientBoostingRegressor` or `...Classifier`.

        The k-th tree of each round adds to ``outputs[k]``. Of two classes a classifier has one tree
        in a round, the second's. Returns itself.
        """
        trees, nodes = self.value.shape
        blank = Trees(trees // self.outputs, self.outputs, (nodes + 1) // 2)
        self.load_state_dict(blank.state_dict())
        self.baseline[list(outputs)] = (
            torch.from_numpy(model._baseline_prediction).flatten().to(self.baseline)
        )
        for turn, trees in enumerate(model._predictors):
            for output, tree in zip(outputs, trees, strict=True):
                self._copy(turn * self.outputs + output, tree.nodes)
        return self

    def _copy(self, tree: int, nodes: np.ndarray) -> None:
        """The nodes of one tree as scikit-learn keeps them, a record array."""
        leaf, own = torch.from_numpy(nodes["is_leaf"]).bool(), torch.arange(len(nodes))
        self._put("value", tree, nodes["value"] * nodes["is_leaf"])
        self._put("threshold", tree, nodes["num_threshold"])
        self._put("feature", tree, nodes["feature_idx"])
        for side in ("left", "right"):
            child = torch.from_numpy(nodes[side].astype("int64")).where(~leaf, own)
            self._put(side, tree, (tree * self.value.shape[1] + child).numpy())

    def _put(self, name: str, tree: int, values: np.ndarray) -> None:
        """The first entries of a tree's row in one of the buffers."""
        buffer: Tensor = getattr(self, name)
        buffer[tree, : len(values)] = torch.from_numpy(values).to(buffer)
