"""The term through each member's own task: what is drawn for a task that was told solves it."""

import dataclasses

import pytest
import torch
from laws.task_generators import COUNT, NETWORK, SPEC, Net, members, rng, tasks, told
from torch import nn
from torch.nn import functional as F

from wsl.generative import OwnTaskLoss, TaskDiffusion, TrainingMembers, task_accuracy
from wsl.params import call, from_module, stack, unstack
from wsl.symmetry import permutation_spec


def untrained(make=Net, count=32):
    """Members that know nothing of their tasks: their weights alone teach nothing."""
    weights = stack([from_module(make()) for _ in range(count)])
    support = tasks().draw(count, generator=rng(3)).support
    return TrainingMembers(weights, model=NETWORK, examples=support)


def fitted(known, **how):
    model = TaskDiffusion(SPEC, channels=8, blocks=1, width=4)
    model.fit(known, seed=0, **how)
    return model


def test_the_loss_is_that_of_each_network_run_by_itself_on_its_own_examples():
    known, rows = members(), torch.tensor([4, 0, 4])
    theta = {n: t[rows] for n, t in untrained(count=COUNT).params.items()}
    loss = OwnTaskLoss(NETWORK, known.examples, weight=2.0)(theta, rows, rng())
    inputs, labels = known.examples.of(rows).flat()
    own = [
        F.cross_entropy(call(NETWORK.eval(), one, x), y)
        for one, x, y in zip(unstack(theta), inputs, labels, strict=True)
    ]
    torch.testing.assert_close(loss, 2.0 * torch.stack(own).mean())


def test_no_more_networks_and_no_more_shots_are_run_than_asked_for():
    known, rows = members(), torch.arange(COUNT)
    few = OwnTaskLoss(NETWORK, known.examples, networks=2, shots=1)
    first = {n: t[:2] for n, t in untrained(count=COUNT).params.items()}
    all_of = few(untrained(count=COUNT).params | first, rows, rng())
    shot = int(torch.randperm(known.examples.shots, generator=rng())[0])
    one = dataclasses.replace(known.examples, inputs=known.examples.inputs[:, :, [shot]])
    expected = OwnTaskLoss(NETWORK, one)(first, rows[:2], rng())
    torch.testing.assert_close(all_of, expected)


def test_a_weight_of_zero_changes_no_byte_and_another_weight_does():
    drawn = [
        fitted(members(), steps=3, task_loss=weight).sample(3, condition=told(), generator=rng())
        for weight in (None, 0.0, 3.0)
    ]
    for name, tensor in drawn[0].items():
        assert torch.equal(tensor, drawn[1][name]), name
    assert any(not torch.equal(t, drawn[2][n]) for n, t in drawn[0].items())


def test_a_condition_that_is_hidden_has_no_task_to_solve():
    drawn = []
    for weight in (0.0, 1e6):
        model = TaskDiffusion(SPEC, channels=4, blocks=1, width=4)
        model.prior.dropout = 1.0
        model.fit(members(), steps=2, task_loss=weight)
        drawn.append(model.sample(2, condition=told(), generator=rng()))
    for name, tensor in drawn[0].items():
        assert torch.equal(tensor, drawn[1][name]), name


def test_members_without_examples_or_a_network_are_told_what_the_term_needs():
    alone = dataclasses.replace(members(), model=None)
    with pytest.raises(ValueError, match=r"task_loss: .* without model and examples"):
        TaskDiffusion(SPEC, channels=4, blocks=1, width=4).fit(alone, steps=1, task_loss=1.0)


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def test_the_term_makes_draws_for_unseen_tasks_work_where_weights_alone_teach_nothing():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = dataclasses.replace(untrained(plain), model=plain())
    spec = permutation_spec(plain(), torch.zeros(2, 1, 4, 4))
    support, query = tasks().draw(24, generator=rng(11))

    def accuracy(**how):
        model = TaskDiffusion(spec, channels=16, blocks=2, width=16)
        model.fit(known, steps=200, batch_size=16, lr=1e-2, decay=0.9, **how)
        drawn = model.sample(24, condition=support, steps=10, generator=rng(1))
        return float(task_accuracy(plain(), drawn, query).mean())

    assert accuracy() < 0.42  # a third by chance
    assert accuracy(task_loss=30.0) > 0.5
