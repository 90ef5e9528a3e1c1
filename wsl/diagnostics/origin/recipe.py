"""The recipe of a merge: which weighted mean of other checkpoints is this one?

    min_alpha |y - sum_i alpha_i x_i|^2,  sum_i alpha_i = 1      (on task vectors x_i - x_0)
    gain = 1 - RSS(mix) / min_i RSS(x_i)

Least squares with one constraint; any x_i may serve as x_0, a common base as well as a parent. It
is fitted to all tensors together and to each of them, that is per role and layer, since merges with
weights by layer are common. Siblings reach a gain by chance: if y and k members differ from one
point by independent amounts of equal size, the mean of all has RSS (1 + 1/k) where a single one has
2, so that the gain is (k - 1) / 2k, .25 for two. A merge is called .05 above that: .30 for two.

An exact relation has as many readings as members: if y = (x_1 + x_2) / 2, then x_1 = 2 y - x_2 fits
as well. Only y is a mean with weights between 0 and 1; a mixture with others (task arithmetic with
large scales) is reported as a relation, which does not say which of its members was made last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.diagnostics.origin.sites import weights_of

MARGIN = 0.05
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class MixtureFit:
    """Weights that sum to 1, the residual sum of squares, and that of the best single member."""

    weights: tuple[float, ...]
    rss: float
    best_single: float

    @property
    def gain(self) -> float:
        """1 - RSS(mix) / RSS(best single); 0 where a single member is already exact."""
        return 1 - self.rss / self.best_single if self.best_single else 0.0


@dataclasses.dataclass(frozen=True)
class MergeRecipe:
    """The mixture for all tensors together, and for each."""

    whole: MixtureFit
    by_tensor: Mapping[str, MixtureFit]

    @property
    def gain(self) -> float:
        """Gain of mixtures for each tensor over the best single member for all."""
        rss = sum(fit.rss for fit in self.by_tensor.values())
        return 1 - rss / self.whole.best_single if self.whole.best_single else 0.0

    @property
    def chance(self) -> float:
        """The gain of k siblings that are not mixed, (k - 1) / 2k."""
        count = len(self.whole.weights)
        return (count - 1) / (2 * count)

    @property
    def called(self) -> bool:
        """Whether the gain is that of a merge, by a mean of at least two members."""
        return self.gain >= self.chance + MARGIN and self.is_mean

    @property
    def is_mean(self) -> bool:
        """Whether the weights lie between 0 and 1, and at least two of them take part."""
        weights = self.whole.weights
        inside = all(-MARGIN <= weight <= 1 + MARGIN for weight in weights)
        return inside and sum(weight >= MARGIN for weight in weights) >= 2


@torch.no_grad()
def merge_recipe(y: Mapping[str, Tensor], members: Sequence[Mapping[str, Tensor]]) -> MergeRecipe:
    """Fit ``y`` as a mixture of at least two ``members``, all aligned to it if units moved."""
    if len(members) < 2:
        raise ValueError(f"merge_recipe: {len(members)} members, but at least two are needed")
    grams = {name: _gram(y[name], [x[name] for x in members]) for name in weights_of(y)}
    total = torch.stack(list(grams.values())).sum(0)
    return MergeRecipe(_fitted(total), {name: _fitted(gram) for name, gram in grams.items()})


def _gram(y: Tensor, members: Sequence[Tensor]) -> Tensor:
    """Inner products of x_i - y, float64 (N, N), with |y|^2 in a last row and column."""
    target = y.double().flatten()
    rows = torch.stack([x.to(y.device).double().flatten() - target for x in members])
    found = torch.zeros(len(rows) + 1, len(rows) + 1, dtype=torch.float64)
    found[:-1, :-1] = rows @ rows.T
    found[-1, -1] = target @ target
    return found


def _fitted(gram: Tensor) -> MixtureFit:
    """The mixture of least |sum alpha_i (x_i - y)|^2, or the one member that is y to rounding."""
    errors, size = gram[:-1, :-1], float(gram[-1, -1])
    singles = errors.diagonal()
    if float(singles.min()) <= _ROUNDING * size:
        best = int(singles.argmin())
        return MixtureFit(tuple(float(i == best) for i in range(len(singles))), 0.0, 0.0)
    weights = _least_squares(errors)
    rss = max(0.0, float(weights @ errors @ weights))
    return MixtureFit(tuple(weights.tolist()), rss, float(singles.min()))


def _least_squares(errors: Tensor) -> Tensor:
    """alpha = e_0 + D beta of least alpha^T E alpha; D's columns e_i - e_0 keep its sum at 1."""
    moves = torch.eye(len(errors), dtype=torch.float64)[:, 1:]
    moves[0] = -1
    inner = moves.T @ errors @ moves
    beta = -torch.linalg.pinv(inner, hermitian=True) @ (moves.T @ errors[:, 0])
    weights = moves @ beta
    weights[0] += 1
    return weights
