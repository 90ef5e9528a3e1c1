"""The trial over held-out tasks: networks drawn from a few labelled examples, scored on others.

    drawn   accuracy on the query of task n of a network drawn for its support
    tuned   the same after k steps of training on the support, at the arm's best learning rate

Each arm draws one network for every task and seed, and none is chosen. The rate is one for all
tasks of an arm, chosen on the first half of the queries; every score is read on the second half.
All networks of an arm, at all rates, are trained as one stack, with equal batches for every arm.
Beside them stand floors without a network: the nearest class mean, and ridge regression.
Differences are paired by task, after the mean over seeds, and their errors are those over tasks:
they hold for tasks of this kind, while seeds say only what another draw would change.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.base import counter
from wsl.generative.conditions import Episodes, LabelledExamples, task_logits
from wsl.generative.judge.arms import CONDITION_ARMS, nearest_mean_accuracy, ridge_accuracy
from wsl.generative.judge.drawing import GENERATED, drawn_arms
from wsl.generative.judge.judge import DRAWN, TUNED
from wsl.generative.judge.rates import of_rate, trained_at
from wsl.generative.judge.trial import best_rows
from wsl.generative.judge.verdict import KNOWN, Verdict, compared, ignored_condition
from wsl.generative.problem import Initializer, Start
from wsl.generative.starts import GeneratedStart
from wsl.params import Params, members

_AT_ONCE = 64
_SHARE = 0.95
HEAD = " with a solved head"
"""Added to an arm's name where its last layer is solved for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTraining:
    """The same training for every arm: AdamW without decay on the support of each task.

    measured: steps after which accuracies are read, besides the first and the last.
    """

    steps: int = 50
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2)
    batch_size: int = 32
    measured: Sequence[int] = (1, 2, 4, 8, 16, 32)

    @property
    def kept(self) -> tuple[int, ...]:
        """All steps that are measured."""
        return tuple(sorted({0, self.steps, *(k for k in self.measured if k < self.steps)}))


@dataclasses.dataclass(frozen=True, eq=False)
class TaskTrial:
    """Accuracies (seeds, tasks, measurements) of one arm after ``steps`` at its rate ``lr``.

    validated: accuracies (seeds, tasks) as drawn on the half of the queries that chooses.
    """

    accuracy: Tensor
    steps: tuple[int, ...]
    lr: float
    validated: Tensor | None = None

    @property
    def drawn(self) -> Tensor:
        """As drawn, (tasks,), mean over seeds."""
        return self.accuracy[..., 0].mean(0)

    def best(self, k: int) -> Tensor:
        """As drawn, (tasks,), mean over the ``k`` seeds of each task that do best where it chooses.

        Raises ValueError for fewer seeds.
        """
        return self.accuracy[..., 0].gather(0, best_rows(self.validated, k)).mean(0)

    @property
    def tuned(self) -> Tensor:
        """After all steps, (tasks,), mean over seeds."""
        return self.accuracy[..., -1].mean(0)

    @property
    def curve(self) -> Tensor:
        """Mean over tasks and seeds at every measured step."""
        return self.accuracy.mean((0, 1))

    def steps_to(self, target: float) -> float:
        """The first measured step at which the mean accuracy reaches ``target``; else infinite."""
        reached = (self.curve >= target).nonzero()
        return float(self.steps[int(reached[0])]) if len(reached) else math.inf


@dataclasses.dataclass(frozen=True, eq=False)
class TaskJudgement:
    """How a generator and the other arms fared over tasks.

    floors: accuracies (tasks,) without any network, by name. left_out: arms, and what they lack.
    target: accuracy whose steps are counted. drawn: the generator's networks of the first seed.
    """

    trials: Mapping[str, TaskTrial]
    floors: Mapping[str, Tensor]
    scores: Mapping[str, float]
    left_out: Mapping[str, str]
    target: float
    verdict: Verdict
    drawn: Params


def judge_tasks(
    start: Start,
    arms: Mapping[str, Initializer],
    tasks: Episodes,
    *,
    seeds: int = 3,
    training: TaskTraining | None = None,
    head: Callable[[Initializer], Initializer] | None = None,
    target: float | None = None,
) -> TaskJudgement:
    """Try ``start.fitted`` on held-out tasks, beside each arm and the three wrong conditions.

    head: puts another last layer on a start; every arm is tried with it too.
    target: by default 95 % of what ``default_init`` comes to, or the generator without such an arm.
    Raises ValueError for queries of less than two examples a class: one half chooses rates.
    """
    every = {GENERATED: GeneratedStart(), **arms}
    every |= {name: make() for name, make in CONDITION_ARMS.items() if name not in every}
    if head is not None:
        every |= {name + HEAD: head(arm) for name, arm in every.items()}
    drawn, left_out = _drawn(start, every, tasks, seeds=seeds)
    how, (chosen, scored) = training or TaskTraining(), _halves(tasks.query)
    run = _Runs(start.model, tasks.support, chosen, scored, training=how, seed=start.seed)
    trials = {name: run(weights) for name, weights in drawn.items()}
    heldout = Episodes(tasks.support, scored)
    floors = {
        "nearest_class_mean": nearest_mean_accuracy(heldout),
        "ridge_on_inputs": ridge_accuracy(heldout),
    }
    if target is None:
        target = _SHARE * float(trials.get("default_init", trials[GENERATED]).curve[-1])
    scores = _scores(trials, floors, seeds=seeds, target=target)
    first = {name: tensor[: len(tasks.support)] for name, tensor in drawn[GENERATED].items()}
    return TaskJudgement(
        trials, floors, scores, left_out, target, verdict=_verdict(trials, floors), drawn=first
    )


def _drawn(
    start: Start, arms: Mapping[str, Initializer], tasks: Episodes, *, seeds: int
) -> tuple[dict[str, Params], dict[str, str]]:
    """The weights (seeds * tasks, ...) of each arm, seed by seed; what the others lack."""
    parts, left_out = [], {}
    for seed in range(seeds):
        asked = dataclasses.replace(start, condition=tasks.support, seed=start.seed + seed)
        drawn, left_out = drawn_arms(asked, arms, len(tasks.support))
        parts.append(drawn)
    joined = {
        name: {key: torch.cat([part[name][key] for part in parts]) for key in parts[0][name]}
        for name in parts[0]
    }
    return joined, left_out


@dataclasses.dataclass(frozen=True, eq=False)
class _Runs:
    """Tries stacks of weights (seeds * tasks, ...): task is the faster index."""

    model: nn.Module
    support: LabelledExamples
    chosen: LabelledExamples
    scored: LabelledExamples
    _: dataclasses.KW_ONLY
    training: TaskTraining
    seed: int

    def __call__(self, theta: Params) -> TaskTrial:
        """Train at every rate, choose one on one half, read accuracies on the other."""
        how, tasks, rates = self.training, len(self.support), len(self.training.lrs)
        snapshots = trained_at(
            self.model,
            theta,
            how.lrs,
            batches=lambda rows: _SupportBatches(
                *self.support.flat(), rows, how.batch_size, self.seed
            ),
            steps=how.steps,
            snapshots=how.kept,
        ).snapshots
        best = int(
            self._accuracy(snapshots[-1], self.chosen, rates).view(rates, -1).mean(1).argmax()
        )
        kept = [
            self._accuracy(of_rate(stack, best, rates=rates), self.scored, 1).view(-1, tasks)
            for stack in snapshots
        ]
        drawn = self._accuracy(theta, self.chosen, 1).view(-1, tasks)
        return TaskTrial(torch.stack(kept, -1), how.kept, float(how.lrs[best]), validated=drawn)

    @torch.no_grad()
    def _accuracy(self, theta: Params, examples: LabelledExamples, times: int) -> Tensor:
        """(rows,) of stacked networks, each on its own task."""
        inputs, labels = examples.flat()
        rows = members(theta)
        task = torch.arange(rows // times).repeat(times) % len(examples)
        parts = [
            (
                task_logits(self.model, _slice(theta, part), inputs[task[part]]).argmax(-1)
                == labels[task[part]]
            )
            for part in torch.arange(rows).split(_AT_ONCE)
        ]
        return torch.cat(parts).double().mean(1)


@dataclasses.dataclass(frozen=True, eq=False)
class _SupportBatches:
    """Batches of each row's own task, drawn with replacement; a row's draws do not depend on its
    arm or rate.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    batch_size: int
    seed: int

    def of(self, members: Tensor) -> _SupportBatches:
        """The batches of the members at these positions."""
        return dataclasses.replace(self, rows=self.rows[members])

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, ...) and labels (N, B) of ``step``."""
        slots = torch.arange(self.batch_size)
        drawn = counter.uniform(self.seed, self.rows[:, None], step, slots)
        index = (drawn * self.inputs.shape[1]).long()
        task = (self.rows % len(self.inputs))[:, None]
        return self.inputs[task, index], self.labels[task, index]


def _halves(query: LabelledExamples) -> tuple[LabelledExamples, LabelledExamples]:
    if query.shots < 2:
        raise ValueError(
            f"tasks: the query has {query.shots} example of each class, but one half chooses "
            "learning rates and the other scores; give at least two"
        )
    half = query.shots // 2
    return LabelledExamples(query.inputs[:, :, :half]), LabelledExamples(query.inputs[:, :, half:])


def _slice(params: Params, rows: Tensor) -> Params:
    return {name: tensor[rows] for name, tensor in params.items()}


def _scores(
    trials: Mapping[str, TaskTrial],
    floors: Mapping[str, Tensor],
    *,
    seeds: int,
    target: float,
) -> dict[str, float]:
    mine = trials[GENERATED]
    found = {
        "tasks": float(len(mine.drawn)),
        "seeds": float(seeds),
        "accuracy_as_drawn": float(mine.drawn.mean()),
        "accuracy_as_drawn_error": _error(mine.drawn),
        "accuracy_tuned": float(mine.tuned.mean()),
        "target_accuracy": target,
        "steps_to_target": mine.steps_to(target),
        **{f"accuracy_of_{name}": float(floor.mean()) for name, floor in floors.items()},
    }
    if "default_init" in trials:
        found["steps_to_target_from_default_init"] = trials["default_init"].steps_to(target)
    return found


def _error(scores: Tensor) -> float:
    """Standard error of a mean over tasks."""
    return float(scores.std() / len(scores) ** 0.5) if len(scores) > 1 else 0.0


def _verdict(trials: Mapping[str, TaskTrial], floors: Mapping[str, Tensor]) -> Verdict:
    drawn = {name: each.drawn for name, each in trials.items()} | dict(floors)
    tuned = {name: each.tuned for name, each in trials.items()}
    found = (
        *compared(drawn, GENERATED, measure=DRAWN, paired=True),
        *compared(tuned, GENERATED, measure=TUNED, paired=True),
    )
    return Verdict(found, ignored_condition(found, measure=DRAWN) | _only_the_head(drawn))


def _only_the_head(drawn: Mapping[str, Tensor]) -> dict[str, str]:
    """The flag of a generator whose condition makes no difference once the head is solved for."""
    names = [GENERATED + HEAD, "random_condition" + HEAD]
    if not all(name in drawn for name in names):
        return {}
    (found,) = compared({name: drawn[name] for name in names}, names[0], measure=DRAWN, paired=True)
    if found.beaten or found.error > KNOWN:
        return {}
    why = f"with solved heads a random one does as well ({DRAWN} {found.sign})"
    return {"its condition reaches the last layer only": why}
