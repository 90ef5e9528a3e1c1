"""The laws of generators of weights. A row is how one is made, ``make(spec, conditions)``, and how
it is fitted in a moment, the keyword arguments of ``fit``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import safetensors.torch
import torch
from networks import BY_NAME

from wsl.generative import FitReport, Generator, TrainingMembers, is_generator
from wsl.symmetry import SpecError

NETWORK = BY_NAME["residual"]
"""With batch norm: variances, which stay positive, and counters, which stay integers."""
COUNT = 12


@dataclasses.dataclass(frozen=True)
class Row:
    """One generator, and the options that fit it quickly."""

    make: Callable[..., Generator]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def new(self, conditions: int = 1) -> Generator:
        return self.make(NETWORK.spec, conditions=conditions, seed=0)

    def fitted(self, conditions: int = 1, **more: Any) -> Generator:
        generator = self.new(conditions)
        generator.fit(members(conditions), **{**self.options, **more})
        return generator


def members(conditions: int = 1) -> TrainingMembers:
    condition = torch.linspace(0, 1, COUNT)[:, None].expand(-1, conditions)
    with torch.random.fork_rng():  # networks are made with torch's own generator
        model, params = NETWORK.make(), NETWORK.weights(COUNT)
    return TrainingMembers(params, condition if conditions else None, model=model)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[n], other[n]) and one[n].dtype == other[n].dtype for n in one
    )


def declares_what_it_is(row):
    generator = row.new(2)
    assert is_generator(generator)
    assert generator.conditions == 2
    assert generator.spec == NETWORK.spec
    fields = {field.name for field in dataclasses.fields(TrainingMembers)}
    assert type(generator).needs <= fields


def reports_what_it_learned_from(row):
    report = row.new().fit(members(), **row.options)
    assert isinstance(report, FitReport)
    assert report.members == COUNT
    assert all(torch.tensor(losses).isfinite().all() for losses in report.losses.values())


def draws_networks_of_the_specification(row):
    like = members().params
    for conditions, asked in ((0, None), (1, 0.5), (1, None), (2, torch.tensor([0.5, 0.5]))):
        drawn = row.fitted(conditions).sample(3, condition=asked, generator=rng())
        assert NETWORK.spec.validate(drawn) == (3,)
        for name, tensor in drawn.items():
            assert tensor.dtype == like[name].dtype, name
            assert tensor.isfinite().all(), name
            assert not name.endswith("running_var") or tensor.min() >= 0, name


def the_generator_alone_decides(row):
    def run(noise):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        drawn = row.fitted(seed=4).sample(3, condition=0.5, generator=rng(7))
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert equal(run(0), run(1))


def leaves_the_members_alone(row):
    before = members()
    row.new().fit(given := members(), **row.options)
    assert equal(before.params, given.params)
    assert torch.equal(before.condition, given.condition)


def draws_do_not_share_memory_with_what_is_kept(row):
    generator = row.fitted()
    first = generator.sample(3, condition=0.0, generator=rng())
    before = {name: tensor.clone() for name, tensor in first.items()}
    for tensor in first.values():
        tensor.zero_()
    assert equal(generator.sample(3, condition=0.0, generator=rng()), before)


def a_saved_one_draws_the_same(row, tmp_path):
    generator = row.fitted()
    generator.save(tmp_path / "generator.safetensors")
    again = type(generator).load(tmp_path / "generator.safetensors")
    assert again.spec == generator.spec
    assert again.conditions == generator.conditions
    one, other = (g.sample(3, condition=0.5, generator=rng()) for g in (generator, again))
    assert equal(one, other)


def saving_twice_gives_equal_bytes(row, tmp_path):
    for name in ("a", "b"):
        row.fitted().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def another_file_is_refused(row, tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a saved"):
        type(row.new()).load(tmp_path / "other.safetensors")


def weights_of_another_architecture_are_refused(row):
    params = members(0).params
    name = next(n for n, shape in NETWORK.spec.shapes.items() if len(shape) > 1)
    with pytest.raises(SpecError, match=name.replace(".", r"\.")):
        row.new(0).fit({**params, name: params[name][..., :-1]}, **row.options)


def diverged_members_are_refused(row):
    params = members(0).params
    name = next(iter(params))
    with pytest.raises(ValueError, match="NaN or infinite"):
        row.new(0).fit({**params, name: params[name] * torch.nan}, **row.options)


def conditions_that_do_not_fit_are_refused(row):
    with pytest.raises(ValueError, match="condition"):
        row.new(1).fit(members(0), **row.options)
    with pytest.raises(ValueError, match="condition"):
        row.new(1).fit(members(2), **row.options)


GENERATOR_LAWS = [
    declares_what_it_is,
    reports_what_it_learned_from,
    draws_networks_of_the_specification,
    the_generator_alone_decides,
    leaves_the_members_alone,
    draws_do_not_share_memory_with_what_is_kept,
    a_saved_one_draws_the_same,
    saving_twice_gives_equal_bytes,
    another_file_is_refused,
    weights_of_another_architecture_are_refused,
    diverged_members_are_refused,
    conditions_that_do_not_fit_are_refused,
]
"""Each takes a row, and a folder to write to if it has a second argument."""
