"""`StatBoost`: gradient-boosted trees on statistics of each tensor, the baseline of Unterthiner et al.

    f(theta) = sum_m tree_m(s_1, ..., s_T),     s_t = (mean, variance, quantiles 0, 25, 50, 75, 100 %) of tensor t

Unterthiner et al. (2020), Predicting Neural Network Accuracy from Weights, arXiv 2002.11448; trees are scikit-learn's
histogram gradient boosting (Ke et al. 2017, LightGBM). Invariant like `StatNet`, and as blind to how weights are wired. It is
fitted once, without gradients, epochs or a device; the trees are no tensors, so a state dict does not hold them. Columns of
metadata stand beside the statistics as their codes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsl.nn.columns import Columns
from wsl.nn.layout import validate
from wsl.nn.normalize import InputNormalizer
from wsl.nn.statnet import weight_statistics
from wsl.symmetry import PermutationSpec


class StatBoost(nn.Module):
    """Weights (batch, *shape) to (batch, out_features): the logit of a score in [0, 1], or log-probabilities of labels.

    ``out_features`` = 1 regresses a score, more of them classify. ``iterations`` trees (for each label) of ``leaves`` leaves.
    With ``columns``, their codes (batch, width) follow the weights in every call.
    """

    equivariance = "invariant"
    takes_columns = True

    def __init__(self, spec: PermutationSpec, *, out_features: int = 1, iterations: int = 200, learning_rate: float = 0.1,
                 leaves: int = 31, seed: int = 0, odd: Sequence[str] = (), columns: Columns | None = None):  # fmt: skip
        super().__init__()
        self.spec, self.out_features, self.normalizer = spec, out_features, InputNormalizer(spec, odd=odd)
        self.columns = columns
        self.options = {"max_iter": iterations, "learning_rate": learning_rate, "max_leaf_nodes": leaves, "random_state": seed}
        self.trees: Any = None

    def fit(self, params: Mapping[str, Tensor], targets: Tensor, codes: Tensor | None = None) -> StatBoost:
        """Grow the trees on weights (batch, *shape) and targets (batch,), scores or labels; returns itself."""
        from sklearn import ensemble  # a second to import, needed by no other functional

        kind = ensemble.HistGradientBoostingRegressor if self.out_features == 1 else ensemble.HistGradientBoostingClassifier
        self.trees = kind(**self.options).fit(self._features(params, codes), targets.cpu().numpy())
        return self

    def predict(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Scores or labels (batch,). Raises ValueError before `fit`."""
        return torch.from_numpy(self._fitted().predict(self._features(params, codes)))

    def forward(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Raises `SpecError` for tensors that do not fit, ValueError for codes that do not and before `fit`."""
        device = self.normalizer.mean.device
        if self.out_features == 1:
            return self.predict(params, codes).clamp(1e-6, 1 - 1e-6).logit().float().unsqueeze(1).to(device)
        chances = torch.from_numpy(self._fitted().predict_proba(self._features(params, codes)))
        outputs = torch.zeros(len(chances), self.out_features, dtype=chances.dtype)
        outputs[:, torch.from_numpy(self._fitted().classes_)] = chances
        return outputs.clamp(min=1e-6).log().float().to(device)

    def _features(self, params: Mapping[str, Tensor], codes: Tensor | None) -> Any:
        validate(self.spec, params)
        found = weight_statistics(self.normalizer(params))
        if self.columns is not None:
            found = torch.cat([found, self.columns.check(codes, len(found)).to(found)], 1)
        return found.cpu().numpy()

    def _fitted(self) -> Any:
        if self.trees is None:
            raise ValueError("StatBoost has no trees, which a saved network does not hold; call fit, or wsl train, first")
        return self.trees
