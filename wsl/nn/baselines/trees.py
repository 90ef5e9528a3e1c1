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
        nodes = (count * outputs, 2 * leaves - 1)
        itself = torch.arange(math.prod(nodes)).view(nodes)
        self.register_buffer("baseline", torch.zeros(outputs).double())
        self.register_buffer("value", torch.zeros(nodes).double())
        self.register_buffer("threshold", torch.zeros(nodes).double())
        self.register_buffer("feature", torch.zeros_like(itself))
        self.register_buffer("left", itself)
        self.register_buffer("right", itself.clone())

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
        leaf, size = torch.from_numpy(nodes["is_leaf"]).bool(), len(nodes)
        first = tree * self.value.shape[1]
        self.value[tree, :size] = torch.from_numpy(nodes["value"] * nodes["is_leaf"]).to(self.value)
        self.threshold[tree, :size] = torch.from_numpy(nodes["num_threshold"]).to(self.value)
        self.feature[tree, :size] = torch.from_numpy(nodes["feature_idx"]).to(self.feature)
        for side, name in ((self.left, "left"), (self.right, "right")):
            child = torch.from_numpy(nodes[name].astype("int64"))
            side[tree, :size] = (first + child.where(~leaf, torch.arange(size))).to(side)
