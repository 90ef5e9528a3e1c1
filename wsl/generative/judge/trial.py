"""A fair trial of initial weights: accuracy as drawn, and after the same short training for all.

    arm -> accuracy_test(theta_0),   accuracy_test(theta_k(lr*))
    lr* = argmax_lr mean accuracy_val(theta_k(lr))

Every arm gets the same learning rates, steps, batches and optimiser; its own best rate is chosen on
the validation images, scores are read once on the test images. Numbers are means over all draws of
an arm: none is selected. Following the protocol that survived criticism, Zeng et al. (2025), arXiv
2506.07998. It says nothing of novelty: see `novelty`.

Published generators are often told by their best few draws, chosen on the data that score. Such a
number stands beside the mean only, and its networks are chosen on the validation images:

    best k of n = accuracy_test of the k draws with the largest accuracy_val, as drawn
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.generative.judge.rates import of_rate, task_batches, trained_at
from wsl.params import Params
from wsl.populations import Classification

STEPS = 50
"""Of training after the draw, unless told otherwise."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Test accuracies (n,) of one arm's networks as drawn and after training at the best rate.

    validated: accuracies (n,) as drawn on the validation images; None if those are the test images.
    """

    drawn: Tensor
    tuned: Tensor
    lr: float
    validated: Tensor | None = None

    def best(self, k: int) -> Tensor:
        """Test accuracies (k,) as drawn of the ``k`` networks that do best on validation images.

        Raises ValueError for fewer networks, and where nothing but what scores could choose.
        """
        return self.drawn[best_rows(self.validated, k)]


def best_rows(validated: Tensor | None, k: int) -> Tensor:
    """Positions (k, ...) of the ``k`` largest of (n, ...), the best first, of equals the first."""
    if validated is None:
        raise ValueError(
            "best: no accuracies are known but those that score, and these may not choose; give "
            "validation images of their own"
        )
    if not 1 <= k <= len(validated):
        raise ValueError(f"best: {k} of {len(validated)} networks; give 1 to {len(validated)}")
    return validated.argsort(dim=0, descending=True, stable=True)[:k]


def trial(
    model: nn.Module,
    arms: Mapping[str, Mapping[str, Tensor]],
    data: Classification,
    *,
    steps: int = STEPS,
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2),
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Trial]:
    """Try stacked initial weights, (n, ...) for each arm, on one task.

    AdamW without decay; batches are drawn by ``seed``.
    """

    batches = task_batches(data, batch_size=batch_size, seed=seed)
    found, apart = {}, not torch.equal(data.val.images, data.test.images)
    for name, theta in arms.items():
        stack = trained_at(model, theta, lrs, batches=batches, steps=steps).snapshots[-1]
        tuned, lr = _chosen(model, stack, data, lrs=lrs)
        found[name] = Trial(
            data.evaluate(model, theta, "test")["accuracy"],
            data.evaluate(model, tuned, "test")["accuracy"],
            lr,
            data.evaluate(model, theta, "val")["accuracy"] if apart else None,
        )
    return found


def _chosen(
    model: nn.Module, stack: Params, data: Classification, *, lrs: Sequence[float]
) -> tuple[Params, float]:
    """The networks of the best rate by the validation images, and that rate."""
    accuracy = data.evaluate(model, stack, "val")["accuracy"]
    best = int(accuracy.view(len(lrs), -1).mean(1).argmax())
    return of_rate(stack, best, rates=len(lrs)), float(lrs[best])
