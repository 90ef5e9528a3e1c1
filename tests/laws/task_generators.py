"""The laws of generators that are asked with labelled examples of a task. A row is how one is made,
``make(spec)``, and the keyword arguments that fit it in a moment; laws of `laws.generators` that
say nothing of numbers hold for these too.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from laws import generators
from laws.generators import equal, rng
from wsl.generative import (
    FitReport,
    Generator,
    LabelledExamples,
    TrainingMembers,
    VariantTasks,
    is_generator,
)
from wsl.populations import Classification
from wsl.symmetry import permutation_spec

COUNT, CLASSES = 6, 3


class Net(nn.Sequential):
    """With batch norm: a variance, which stays positive, and a counter, which stays an integer."""

    def __init__(self) -> None:
        hidden = [nn.Linear(16, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES)]
        super().__init__(nn.Flatten(), *hidden)


NETWORK = Net()
SPEC = permutation_spec(NETWORK.eval(), torch.zeros(2, 1, 4, 4))


def tasks() -> VariantTasks:
    labels = torch.arange(120) % 5
    images = 0.3 * torch.rand(120, 1, 4, 4, generator=rng(5))
    images += torch.rand(5, 1, 4, 4, generator=rng(6))[labels]
    data = Classification.split(images, labels, sizes=(100, 10, 10))
    return VariantTasks(data, classes=CLASSES, shots=4, query=4, invert=False)


def members() -> TrainingMembers:
    drawn = tasks().draw(COUNT, generator=rng(1)).support
    params = {name: t.expand(COUNT, *t.shape).clone() for name, t in NETWORK.state_dict().items()}
    return TrainingMembers(params, model=NETWORK, examples=drawn, tasks=tasks())


def told(n: int = 1, seed: int = 2) -> LabelledExamples:
    return tasks().draw(n, generator=rng(seed)).support


@dataclasses.dataclass(frozen=True)
class TaskRow:
    """One generator, the options that fit it quickly, and what its loader needs beside the file."""

    make: Callable[..., Generator]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def new(self) -> Generator:
        return self.make(SPEC, seed=0)

    def fitted(self, **more: Any) -> Generator:
        generator = self.new()
        generator.fit(members(), **{**self.options, **more})
        return generator


def declares_what_it_is(row):
    generator = row.new()
    assert is_generator(generator)
    assert generator.spec == SPEC
    assert type(generator).needs <= {field.name for field in dataclasses.fields(TrainingMembers)}


def reports_what_it_learned_from(row):
    report = row.new().fit(members(), **row.options)
    assert isinstance(report, FitReport)
    assert report.members == COUNT
    assert all(torch.tensor(losses).isfinite().all() for losses in report.losses.values())


def what_it_needs_is_asked_for_by_name(row):
    for name in type(row.new()).needs:
        with pytest.raises(ValueError, match=f"needs {name}"):
            row.new().fit(dataclasses.replace(members(), **{name: None}), **row.options)


def draws_networks_of_the_specification(row):
    like = members().params
    generator = row.fitted()
    for n, condition in ((3, told()), (3, told(3)), (1, told())):
        drawn = generator.sample(n, condition=condition, generator=rng())
        assert SPEC.validate(drawn) == (n,)
        for name, tensor in drawn.items():
            assert tensor.dtype == like[name].dtype, name
            assert tensor.isfinite().all(), name
            assert not tensor.requires_grad, name
            assert not name.endswith("running_var") or tensor.min() >= 0, name


def the_generator_alone_decides(row):
    def run(noise):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        drawn = row.fitted(seed=4).sample(3, condition=told(), generator=rng(7))
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert equal(run(0), run(1))


def a_fit_that_was_stopped_ends_where_one_in_a_piece_does(row, tmp_path):
    how = {"steps": 6, "checkpoint": tmp_path / "state.safetensors", "every": 2}

    def stopped(step, _):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        row.fitted(progress=stopped, **how)
    one, other = row.fitted(steps=6), row.fitted(**how)
    drawn = [g.sample(3, condition=told(), generator=rng()) for g in (one, other)]
    assert equal(*drawn)
    assert not equal(drawn[0], row.fitted(steps=4).sample(3, condition=told(), generator=rng()))


def leaves_the_members_alone(row):
    before = members()
    row.new().fit(given := members(), **row.options)
    assert equal(before.params, given.params)
    assert equal(given.model.state_dict(), NETWORK.state_dict())


def draws_do_not_share_memory_with_what_is_kept(row):
    generator = row.fitted()
    first = generator.sample(3, condition=told(), generator=rng())
    before = {name: tensor.clone() for name, tensor in first.items()}
    for tensor in first.values():
        tensor.zero_()
    assert equal(generator.sample(3, condition=told(), generator=rng()), before)


def another_condition_gives_another_network(row):
    generator = row.fitted()
    one, other = (generator.sample(1, condition=told(seed=s), generator=rng()) for s in (2, 3))
    assert not equal(one, other)


def without_examples_it_says_what_it_needs(row):
    for condition in (None, 0.5):
        with pytest.raises(ValueError, match=r"condition: .*LabelledExamples"):
            row.fitted().sample(2, condition=condition)
    with pytest.raises(ValueError, match="condition: 2 tasks for 3 networks"):
        row.fitted().sample(3, condition=told(2))


def a_saved_one_draws_the_same(row, tmp_path):
    generator = row.fitted()
    generator.save(tmp_path / "generator.safetensors")
    again = type(generator).load(tmp_path / "generator.safetensors", **row.beside)
    assert again.spec == generator.spec
    one, other = (g.sample(3, condition=told(), generator=rng()) for g in (generator, again))
    assert equal(one, other)


TASK_GENERATOR_LAWS = [
    declares_what_it_is,
    reports_what_it_learned_from,
    what_it_needs_is_asked_for_by_name,
    draws_networks_of_the_specification,
    the_generator_alone_decides,
    a_fit_that_was_stopped_ends_where_one_in_a_piece_does,
    leaves_the_members_alone,
    draws_do_not_share_memory_with_what_is_kept,
    another_condition_gives_another_network,
    without_examples_it_says_what_it_needs,
    a_saved_one_draws_the_same,
    generators.saving_twice_gives_equal_bytes,
    generators.another_file_is_refused,
]
"""Each takes a row, and a folder to write to if it has a second argument."""
