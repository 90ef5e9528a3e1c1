"""Held-out tasks: a generator whose network is known in closed form, and one that does not
listen.
"""

import dataclasses
import functools
import math

import pytest
import torch
from planted import data, rng
from torch import nn
from torch.nn import functional as F

from wsl.generative import (
    DefaultStart,
    Episodes,
    FitReport,
    LabelledExamples,
    Start,
    TaskTraining,
    TaskTrial,
    TrainingMembers,
    judge_tasks,
    nearest_mean_accuracy,
    ridge_accuracy,
)
from wsl.params import from_module, stack
from wsl.symmetry import permutation_spec

CLASSES, SHOTS, QUERY, TASKS = 3, 6, 8, 12
TRAINING = TaskTraining(steps=6, lrs=(1e-4, 1e-2), batch_size=12, measured=(1, 3))


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))


@functools.cache
def episodes(seed=0, tasks=TASKS):
    """Three digits in an order, with a few images of each."""
    images, labels = data().train
    generator, found = rng(seed), []
    for _ in range(tasks):
        chosen = torch.randperm(10, generator=generator)[:CLASSES]
        rows = []
        for c in chosen:
            mine = (labels == c).nonzero()[:, 0]
            rows.append(mine[torch.randperm(len(mine), generator=generator)[: SHOTS + QUERY]])
        found.append(images[torch.stack(rows)])
    told, scored = torch.stack(found).split([SHOTS, QUERY], 2)
    return Episodes(LabelledExamples(told), LabelledExamples(scored))


def nearest_mean_network(support):
    """The linear network that says the class of the nearest mean, for each task."""
    means = support.inputs.flatten(3).mean(2)
    return {"1.weight": means, "1.bias": -means.square().sum(-1) / 2}


class Planted:
    needs = frozenset({"tasks"})
    conditions, canonicalizer = 0, None

    def __init__(self, *, listens):
        self.listens = listens
        self.spec = permutation_spec(make().eval(), data().test.images[:2])

    def fit(self, *_, **__):
        return FitReport(1)

    def sample(self, n, *, condition=None, **_):
        told = condition if self.listens else episodes(7).support.of(torch.arange(n) % TASKS)
        if len(told) == 1:
            told = told.of(torch.zeros(n, dtype=torch.long))
        return nearest_mean_network(told)

    def save(self, path):
        raise NotImplementedError

    @classmethod
    def load(cls, path):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class NearestMeanHead:
    """A last layer in closed form on any start: here it is the whole network."""

    start: object
    needs = frozenset({"condition"})

    def draw(self, start, _, **__):
        return nearest_mean_network(start.condition)


@functools.cache
def judged(listens, **more):
    members = TrainingMembers(stack([from_module(make())]))
    start = Start(make(), make=make, members=members, fitted=Planted(listens=listens))
    arms = {"default_init": DefaultStart()}
    return judge_tasks(start, arms, episodes(), seeds=2, training=TRAINING, **more)


def scored_half():
    told, query = episodes()
    return Episodes(told, LabelledExamples(query.inputs[:, :, QUERY // 2 :]))


def test_what_is_drawn_scores_on_the_second_half_of_each_query():
    found = judged(True)
    expected = nearest_mean_accuracy(scored_half())
    torch.testing.assert_close(found.trials["generated"].drawn, expected)
    torch.testing.assert_close(found.floors["nearest_class_mean"], expected)
    assert expected.mean() > 0.8


def test_a_generator_that_listens_beats_every_other_condition_and_the_default():
    verdict = judged(True).verdict
    for arm in ("default_init", "wrong_condition", "random_condition", "mean_condition"):
        assert verdict.against(arm, "accuracy as drawn").beaten, arm
    assert verdict.flags == {}
    floor = verdict.against("nearest_class_mean", "accuracy as drawn")
    assert (floor.difference, floor.error) == (0, 0)


def test_one_that_does_not_is_named_by_the_random_condition():
    verdict = judged(False).verdict
    assert "a random one does as well" in verdict.flags["ignores its condition"]
    assert verdict.against("ridge_on_inputs", "accuracy as drawn").ahead


def test_differences_are_paired_by_task():
    found = judged(True)
    a, b = (found.trials[name].drawn.double() for name in ("generated", "default_init"))
    comparison = found.verdict.against("default_init", "accuracy as drawn")
    assert comparison.difference == pytest.approx(float((a - b).mean()))
    assert comparison.error == pytest.approx(float((a - b).std() / TASKS**0.5))


def test_every_arm_is_tried_with_another_head_where_one_is_given():
    found = judged(False, head=NearestMeanHead)
    names = {name for name in found.trials if name.endswith(" with a solved head")}
    assert len(names) == len(found.trials) / 2
    flag = found.verdict.flags["its condition reaches the last layer only"]
    assert "a random one does as well" in flag  # here the last layer is the whole network
    solved = found.trials["default_init with a solved head"]
    torch.testing.assert_close(solved.drawn, nearest_mean_accuracy(scored_half()))


def test_a_stack_is_tuned_as_a_loop_over_networks_is():
    """One task at a time, by torch's own optimiser, on the batches that the trial draws."""
    from wsl.generative.judge.tasks import _halves, _Runs, _SupportBatches

    support, query = episodes()
    theta = stack([from_module(make()) for _ in range(2 * TASKS)])
    run = _Runs(make(), support, *_halves(query), training=TRAINING, seed=5)
    found = run(theta)
    row = 2 * TASKS - 1  # of the second seed, the last task
    model = make()
    model.load_state_dict({name: t[row] for name, t in theta.items()})
    optimizer = torch.optim.AdamW(model.parameters(), found.lr, weight_decay=0)
    batches = _SupportBatches(*support.flat(), torch.tensor([row]), 12, 5)
    x, y = (t[TASKS - 1] for t in _halves(query)[1].flat())
    for step in range(TRAINING.steps + 1):
        if step in found.steps:
            accuracy = (model(x).argmax(-1) == y).double().mean()
            assert found.accuracy[1, -1, found.steps.index(step)] == pytest.approx(float(accuracy))
        inputs, labels = (t[0] for t in batches(step))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def test_steps_to_a_target_are_those_of_the_mean_curve():
    accuracy = torch.tensor([[[0.2, 0.5, 0.9], [0.4, 0.7, 0.9]]])
    found = TaskTrial(accuracy, (0, 4, 16), 1e-3)
    assert [found.steps_to(t) for t in (0.3, 0.31, 0.9, 0.95)] == [0, 4, 16, math.inf]


def test_ridge_answers_as_the_normal_equations_do():
    found = ridge_accuracy(episodes())
    assert found.shape == (TASKS,)
    assert found.mean() > nearest_mean_accuracy(episodes()).mean() - 0.05
    from wsl.generative.judge.arms.floors import PENALTIES, _ridge

    x, y = (t[0] for t in episodes().support.flat())
    x, queries = x.flatten(1).double(), episodes().query.flat()[0][0].flatten(1).double()
    told = _ridge(x, y, queries, classes=CLASSES)
    middle, targets = x.mean(0), F.one_hot(y, CLASSES).double()
    unit, answers = (x - middle).square().sum(1).mean(), []
    for penalty in PENALTIES:
        gram = (x - middle).T @ (x - middle) + penalty * unit * torch.eye(64).double()
        w = torch.linalg.solve(gram, (x - middle).T @ (targets - targets.mean(0)))
        answers.append(((queries - middle) @ w + targets.mean(0)).argmax(-1))
    assert any(torch.equal(told, each) for each in answers)


def test_a_query_that_cannot_be_halved_is_refused():
    told, query = episodes()
    small = Episodes(told, LabelledExamples(query.inputs[:, :, :1]))
    start = Start(make(), make=make, fitted=Planted(listens=True))
    with pytest.raises(ValueError, match="the query has 1 example of each class"):
        judge_tasks(start, {}, small, seeds=1, training=TRAINING)


def test_arms_that_refuse_are_left_out_and_said():
    @dataclasses.dataclass(frozen=True)
    class Refusing:
        needs = frozenset()

        def draw(self, *_, **__):
            raise ValueError("Refusing: no two tasks are alike")

    start = Start(make(), make=make, fitted=Planted(listens=True))
    found = judge_tasks(start, {"refusing": Refusing()}, episodes(), seeds=1, training=TRAINING)
    assert found.left_out["refusing"] == "Refusing: no two tasks are alike"
    assert "members" in found.left_out["mean_condition"]
