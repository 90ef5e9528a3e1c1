"""`StatBoost`: gradient-boosted trees on statistics of each tensor.

    s_t = (mean, variance, quantiles 0, 25, 50, 75, 100 %) of tensor t
    f(theta) = sum_m tree_m(s_1, ..., s_T)

Unterthiner et al. (2020), Predicting Neural Network Accuracy from Weights, arXiv 2002.11448; trees
are scikit-learn's histogram gradient boosting (Ke et al. 2017, LightGBM). Invariant like `StatNet`,
and as blind to how weights are wired. It is fitted once, on the processor, without gradients or
epochs; its trees are kept as tensors. Columns of metadata stand beside the statistics as their
codes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.nn.baselines.statnet import weight_statistics
from wsl.nn.baselines.trees import Trees
from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import Columns, InputNormalizer
from wsl.symmetry import PermutationSpec


class StatBoost(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    It gives the logit of a score in [0, 1], or log-probabilities of labels: ``out_features`` = 1
    regresses a score, more of them classify. ``iterations`` trees (for each label) of ``leaves``
    leaves. With ``columns``, their codes (batch, width) follow the weights in every call.
    """

    equivariance = "invariant"
    takes_columns = True
    fitted_at_once = True
    seen: Tensor

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        out_features: int = 1,
        iterations: int = 200,
        learning_rate: float = 0.1,
        leaves: int = 31,
        seed: int = 0,
        odd: Sequence[str] = (),
        columns: Columns | None = None,
    ):
        super().__init__()
        self.spec, self.out_features, self.columns = spec, out_features, columns
        self.normalizer = InputNormalizer(spec, odd=odd)
        self.options = {
            "max_iter": iterations,
            "learning_rate": learning_rate,
            "max_leaf_nodes": leaves,
            "random_state": seed,
        }
        self.trees = Trees(iterations, out_features, leaves)
        self.register_buffer("seen", torch.zeros(out_features, dtype=torch.bool))

    def fit(
        self, params: Mapping[str, Tensor], targets: Tensor, codes: Tensor | None = None
    ) -> StatBoost:
        """Grow the trees on weights (batch, *shape) and targets (batch,), scores or labels.

        Returns itself.
        """
        from sklearn import ensemble  # a second to import, needed by no other functional

        kind = (
            ensemble.HistGradientBoostingRegressor
            if self.out_features == 1
            else ensemble.HistGradientBoostingClassifier
        )
        features = self._features(params, codes).cpu().numpy()
        model = kind(**self.options).fit(features, targets.cpu().numpy())
        self._grow(model, features)
        return self

    def predict(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Scores or labels (batch,). Raises ValueError before `fit`."""
        outputs = self._outputs(params, codes)
        return outputs[:, 0] if self.out_features == 1 else outputs.argmax(1)

    def forward(self, params: Mapping[str, Tensor], codes: Tensor | None = None) -> Tensor:
        """Raises `SpecError` for tensors that do not fit.

        Raises ValueError for codes that do not, and before `fit`.
        """
        outputs = self._outputs(params, codes)
        if self.out_features == 1:
            return outputs.clamp(1e-6, 1 - 1e-6).logit().float()
        return outputs.softmax(1).clamp(min=1e-6).log().float()

    def _outputs(self, params: Mapping[str, Tensor], codes: Tensor | None) -> Tensor:
        """What the trees add up to, (batch, out_features).

        It is minus infinity for a label that was not seen.
        """
        if not self.seen.any():
            raise ValueError("StatBoost has no trees yet; call fit, or wsl train, first")
        return self.trees(self._features(params, codes)).masked_fill(~self.seen, -torch.inf)

    def _features(self, params: Mapping[str, Tensor], codes: Tensor | None) -> Tensor:
        validate(self.spec, params)
        found = weight_statistics(self.normalizer(params))
        if self.columns is None:
            return found
        return torch.cat([found, self.columns.check(codes, len(found)).to(found)], 1)

    def _grow(self, model: Any, features: Any) -> None:
        """Take over fitted trees, each to the output of its label.

        Of two labels that were seen, the second has them all.
        """
        labels = [0] if self.out_features == 1 else model.classes_.tolist()
        outputs = labels[1:] if len(labels) == 2 else labels
        self.seen.zero_()[labels] = True
        trees, x = self.trees.grown(model, outputs), torch.from_numpy(features)
        found = trees(x.to(self.seen.device))[:, outputs].cpu()
        own = model.predict if self.out_features == 1 else model.decision_function
        given = torch.from_numpy(own(features)).view_as(found).to(found)
        # Trees are read from private fields, which another version may fill differently.
        if not torch.allclose(found, given, rtol=1e-4):
            raise RuntimeError(
                "the trees of this version of scikit-learn are not understood; install another "
                "version"
            )
