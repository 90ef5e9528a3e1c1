"""`Trees`: sums of regression trees as tensors, so that a state dict holds them and any device
reads them.

    f_k(x) = b_k + sum_t leaf_tk(x),     at each split left if x[feature] <= threshold, until a
                                         leaf, its own child, is reached

Grown elsewhere: `grown` copies what scikit-learn's histogram gradient boosting has fitted (Ke et
al. 2017, LightGBM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_AT_ONCE = 1 << 22
"""Pairs of row and tree that are read at once: some 100 MB."""


class Trees(nn.Module):
    """Features (batch, F) to (batch, outputs), float64: ``count`` trees of at most ``leaves``
    leaves for each output.

    Without `grown`, every tree is one leaf of value 0.
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
        nodes, itself = (
            (count * outputs, 2 * leaves - 1),
            torch.arange(count * outputs * (2 * leaves - 1)),
        )
        self.register_buffer("baseline", torch.zeros(outputs).double())
        for name in ("value", "threshold"):
            self.register_buffer(name, torch.zeros(nodes).double())
        for name, start in (
            ("feature", torch.zeros_like(itself)),
            ("left", itself),
            ("right", itself.clone()),
        ):
            self.register_buffer(name, start.view(nodes))

    def forward(self, x: Tensor) -> Tensor:
        """Sums (batch, outputs) of leaves."""
        parts = x.to(self.value.dtype).split(max(1, _AT_ONCE // len(self.value)))
        return (
            torch.cat(
                [self._leaves(part).unflatten(1, (-1, self.outputs)).sum(1) for part in parts]
            )
            + self.baseline
        )

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
        """Copy the trees of a fitted `HistGradientBoostingRegressor` or `...Classifier`; returns
        itself.

        The k-th tree of each round adds to ``outputs[k]``. Of two classes a classifier has one tree
        in a round, the second's.
        """
        self.load_state_dict(
            Trees(
                len(self.value) // self.outputs, self.outputs, (self.value.shape[1] + 1) // 2
            ).state_dict()
        )
        self.baseline[list(outputs)] = (
            torch.from_numpy(model._baseline_prediction).flatten().to(self.baseline)
        )
        for turn, trees in enumerate(model._predictors):
            for output, tree in zip(outputs, trees, strict=True):
                self._copy(turn * self.outputs + output, tree.nodes)
        return self

    def _copy(self, tree: int, nodes: np.ndarray) -> None:
        leaf, size = torch.from_numpy(nodes["is_leaf"]).bool(), len(nodes)
        first = tree * self.value.shape[1]
        self.value[tree, :size] = torch.from_numpy(nodes["value"] * nodes["is_leaf"]).to(self.value)
        self.threshold[tree, :size] = torch.from_numpy(nodes["num_threshold"]).to(self.value)
        self.feature[tree, :size] = torch.from_numpy(nodes["feature_idx"]).to(self.feature)
        for side, children in ((self.left, nodes["left"]), (self.right, nodes["right"])):
            child = torch.from_numpy(children.astype("int64")).where(~leaf, torch.arange(size))
            side[tree, :size] = (first + child).to(side)
