"""The laws of initialisers. A row is a function without arguments that makes one."""

import dataclasses

import pytest
import torch
from networks import BY_NAME

from wsl.generative import (
    Initializer,
    LatentDiffusion,
    Start,
    TrainingMembers,
    WeightPCA,
    initialize,
    starting_weights,
)
from wsl.params import from_module, unstack
from wsl.symmetry import SpecError

NETWORK = BY_NAME["residual"]
OTHER = BY_NAME["mlp"]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def start(**changes):
    """A question with everything that may be known: members, good and held-out ones, a fitted
    generator with a code.
    """
    spec = NETWORK.spec
    members = TrainingMembers(NETWORK.weights(12), torch.linspace(0, 1, 12)[:, None])
    fitted = LatentDiffusion(spec, latent=4, hidden=16, blocks=1, code=WeightPCA)
    fitted.fit(members, steps=2)
    known = Start(
        NETWORK.make(),
        spec=spec,
        make=NETWORK.make,
        members=members,
        good=members.rows(torch.arange(6, 12)),
        held_out=NETWORK.weights(5, seed=9),
        fitted=fitted,
        condition=0.9,
    )
    return dataclasses.replace(known, **changes)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def declares_what_it_needs(make):
    assert isinstance(make(), Initializer)
    assert isinstance(type(make()).needs, frozenset)
    assert all(hasattr(start(), need) for need in make().needs)


def gives_networks_that_load(make):
    drawn = starting_weights(make(), start(), 4, generator=rng())
    assert NETWORK.spec.validate(drawn) == (4,)
    for theta in unstack(drawn):
        assert all(tensor.isfinite().all() for tensor in theta.values())
        NETWORK.make().load_state_dict(theta)


def is_decided_by_generator_and_seed(make):
    def run(noise, **changes):
        torch.manual_seed(noise)
        asked, before = start(**changes), torch.get_rng_state()
        drawn = starting_weights(make(), asked, 4, generator=rng(5))
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert equal(run(0), run(1))


def leaves_what_it_is_given_alone(make):
    asked, before = start(), start()
    drawn = starting_weights(make(), asked, 4, generator=rng())
    for tensor in drawn.values():
        tensor.zero_()
    assert equal(asked.members.params, before.members.params)
    assert equal(asked.good, before.good)
    assert equal(asked.held_out, before.held_out)
    assert equal(asked.fitted.state_dict(), before.fitted.state_dict())


def starts_a_model_in_place_and_keeps_its_dtype(make):
    model, before = NETWORK.make().double(), from_module(NETWORK.make().double())
    assert initialize(model, make(), start=start(), condition=0.9, seed=1) is model
    after = from_module(model)
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert not equal(after, before)


def another_architecture_is_refused(make):
    with pytest.raises(SpecError):
        initialize(OTHER.make(), make(), start=start(), seed=1)


def says_what_is_missing(make):
    method, unknown = make(), Start(NETWORK.make())
    if method.needs:
        with pytest.raises(ValueError, match=f"{type(method).__name__} needs {min(method.needs)}"):
            starting_weights(method, unknown, 2, generator=rng())
    else:
        assert starting_weights(method, start(fitted=None), 2, generator=rng())


INITIALIZER_LAWS = [
    declares_what_it_needs,
    gives_networks_that_load,
    is_decided_by_generator_and_seed,
    leaves_what_it_is_given_alone,
    starts_a_model_in_place_and_keeps_its_dtype,
    another_architecture_is_refused,
    says_what_is_missing,
]
"""Each takes a row."""
