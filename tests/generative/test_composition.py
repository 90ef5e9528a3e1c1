"""Rows of networks that know all classes: the row of the class that is asked for."""

import dataclasses
import functools
import itertools

import pytest
import torch
from planted import data, rng
from torch import nn

from wsl.generative import (
    CompositionStart,
    LabelledExamples,
    Start,
    TrainingMembers,
    VariantTasks,
    VirtualClasses,
    composed,
    label_sets,
    starting_weights,
    task_accuracy,
)
from wsl.generative.starts.composition import all_classes
from wsl.generative.starts.nearest import best_order
from wsl.params import from_module, stack

SETS = label_sets(range(6), 3)


def make(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, classes))


@functools.cache
def seen():
    return VariantTasks(data(), sets=SETS[::2], angles=(0, 90), shots=10, query=10)


@functools.cache
def unseen():
    return dataclasses.replace(seen(), sets=SETS[1::2], parts=("val", "test"))


def start(**changes):
    members = TrainingMembers({}, tasks=seen())
    return dataclasses.replace(Start(make(), make=make, members=members), **changes)


def images_of(classes, first):
    images, labels = data().train
    rows = [(labels == c).nonzero()[first : first + 20, 0] for c in classes]
    return LabelledExamples(images[torch.stack(rows)][None])


def test_the_best_places_among_more_columns_are_those_of_trying_all():
    apart = torch.rand(2, 5, 3, 6, generator=rng()).double()
    cost, columns = best_order(apart)
    every = list(itertools.permutations(range(6), 3))
    tried = torch.stack([apart[:, :, range(3), list(order)].sum(-1) for order in every], -1)
    torch.testing.assert_close(cost, tried.amin(-1))
    assert torch.equal(columns, torch.tensor(every)[tried.argmin(-1)])


def test_every_class_gets_the_row_of_its_own_class_of_the_network_that_fits():
    weights = stack([from_module(make(8)) for _ in range(2)])
    upright = images_of(range(8), first=0).inputs
    known = LabelledExamples(torch.cat([upright.flip(-1), upright]))  # mirrored, and as they are
    drawn = composed(weights, known, images_of([6, 1, 4], first=40), n=1, head="3")
    assert torch.equal(drawn["1.weight"], weights["1.weight"][[1]])
    assert torch.equal(drawn["3.weight"][0], weights["3.weight"][1, [6, 1, 4]])
    assert torch.equal(drawn["3.bias"][0], weights["3.bias"][1, [6, 1, 4]])
    two = composed(weights, known, images_of([6, 1, 4], first=40), n=3, head="3")
    assert torch.equal(two["1.weight"], weights["1.weight"][[1, 0, 1]])


def test_another_order_of_the_classes_is_the_same_network_with_its_outputs_in_that_order():
    asked = unseen().draw(4, generator=rng(3)).support
    order = torch.tensor([2, 0, 1]).expand(4, -1)
    small = CompositionStart(networks=4, steps=2)
    one, other = (
        starting_weights(small, start(condition=told), 4, generator=rng(1))
        for told in (asked, asked.ordered(order))
    )
    assert torch.equal(other["1.weight"], one["1.weight"])
    assert torch.equal(other["3.weight"], one["3.weight"][:, [2, 0, 1]])


def test_sets_of_known_classes_are_served_and_classes_that_nobody_saw_are_not():
    method = CompositionStart(networks=8, steps=80)

    def accuracy(tasks):
        told, scored = tasks.draw(12, generator=rng(3))
        drawn = starting_weights(method, start(condition=told), 12, generator=rng(1))
        return float(task_accuracy(make(), drawn, scored).mean())

    new = dataclasses.replace(unseen(), sets=((6, 7, 8),))
    known = accuracy(unseen())
    assert known > 0.85
    assert accuracy(new) < known - 0.15


def test_all_classes_are_those_of_the_tasks_with_as_many_examples_as_there_are():
    whole = all_classes(VirtualClasses(seen()), shots=10_000)
    assert whole.label_sets == ((0, 1, 2, 3, 4, 5),)
    fewest = min(int((data().train.labels == c).sum()) for c in range(6))
    assert (whole.shots, whole.query, whole.angles) == (fewest - 1, 1, seen().angles)


def test_more_classes_than_a_network_knows_are_refused():
    weights = stack([from_module(make(2))])
    known, wanted = images_of([0, 1], first=0), images_of([0, 1, 2], first=40)
    with pytest.raises(ValueError, match="3 classes are wanted, but the networks know 2"):
        composed(weights, known, wanted, n=1, head="3")
    asked = start(condition=unseen().draw(2, generator=rng()).support)
    with pytest.raises(ValueError, match="2 tasks for 3 networks; give 1 or 3"):
        starting_weights(CompositionStart(), asked, 3, generator=rng())
