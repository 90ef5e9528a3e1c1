"""Starting weights side by side: the early learning curve of each, at the same budget.

    AULC       1/T int_0^T accuracy(t) dt         the mean height of the curve, by trapezoids
    steps(a)   the first measured step at which accuracy >= a
    lr*        argmax_lr mean AULC_val(lr)

Every start gets the same steps, batches, optimiser and learning rates; its own best rate is chosen
by the area under the validation curve, and accuracies are read once on the test images. Numbers are
means over all draws: none is selected. What a start costs before its first step, such as a network
that it learned from, is not in the budget; a comparison has to say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.generative.judge.rates import of_rate, task_batches, trained_at
from wsl.params import Params, members
from wsl.populations import Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What every start gets: ``steps`` of AdamW without decay at each rate of ``lrs``.

    points: how many times accuracy is measured, the first before any step and the last after all;
    between them the gaps grow, since curves bend early.
    """

    steps: int = 200
    lrs: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2)
    batch_size: int = 32
    points: int = 12

    @property
    def measured(self) -> tuple[int, ...]:
        """The steps after which accuracy is measured, ascending."""
        share = torch.linspace(0, 1, max(2, self.points), dtype=torch.float64) ** 2
        return tuple(sorted({round(self.steps * float(part)) for part in share}))


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Test accuracies (n, K) of one start's networks after ``steps`` updates, at its best rate.

    areas: for each rate tried, the mean area under the validation curve.
    """

    steps: tuple[int, ...]
    accuracy: Tensor
    lr: float
    areas: Mapping[float, float]

    @property
    def aulc(self) -> Tensor:
        """The area under each network's curve, (n,), between 0 and 1."""
        return area(self.steps, self.accuracy)

    def steps_to(self, target: float) -> Tensor:
        """The first measured step (n,) at which each network reaches ``target``; infinity if none.

        As fine as the curve is measured.
        """
        reached = self.accuracy >= target
        steps = torch.tensor(self.steps, dtype=torch.float64).expand(reached.shape)
        return torch.where(reached, steps, torch.inf).amin(1)


def compare_starts(
    model: nn.Module,
    starts: Mapping[str, Mapping[str, Tensor]],
    data: Classification,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Curve]:
    """The curves of stacked starting weights, (n, ...) for each start, on one task.

    Network i of every start sees the same batches at every rate; they are drawn by ``seed``.
    """
    found = {}
    for done, (name, theta) in enumerate(starts.items(), 1):
        found[name] = _curve(model, theta, data, budget=budget or Budget(), seed=seed)
        if progress is not None:
            progress(done, len(starts))
    return found


def area(steps: Sequence[int], height: Tensor) -> Tensor:
    """The mean height (...) of curves (..., K) over their steps, by trapezoids."""
    if len(steps) < 2:
        return height[..., 0]
    x = torch.tensor(steps, dtype=height.dtype)
    return torch.trapezoid(height, x) / (x[-1] - x[0])


def _curve(
    model: nn.Module,
    theta: Mapping[str, Tensor],
    data: Classification,
    *,
    budget: Budget,
    seed: int,
) -> Curve:
    """The curve at the rate with the largest area on the validation images."""
    rates = budget.lrs
    trained = trained_at(
        model,
        theta,
        rates,
        batches=task_batches(data, batch_size=budget.batch_size, seed=seed),
        steps=budget.steps,
        snapshots=budget.measured,
    )
    held_out = _accuracies(model, trained.snapshots, data, split="val")
    areas = area(trained.steps, held_out.view(len(rates), members(theta), -1)).mean(1)
    best = int(areas.argmax())
    chosen = [of_rate(stack, best, rates=len(rates)) for stack in trained.snapshots]
    scores = _accuracies(model, chosen, data, split="test")
    named = zip(map(float, rates), areas.tolist(), strict=True)
    return Curve(trained.steps, scores, float(rates[best]), dict(named))


def _accuracies(
    model: nn.Module, snapshots: Sequence[Params], data: Classification, *, split: str
) -> Tensor:
    """(N, K) of N networks at K times."""
    return torch.stack([data.evaluate(model, w, split)["accuracy"] for w in snapshots], 1)
