"""The laws of initialisers. A row is a function without arguments that makes one, and the network
that it is tried on.
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable

import pytest
import torch
from networks import BY_NAME, Network
from torch import nn

from wsl.generative import (
    Episodes,
    Initializer,
    LabelledExamples,
    Larger,
    LatentDiffusion,
    Start,
    TrainingMembers,
    WeightPCA,
    initialize,
    starting_weights,
)
from wsl.params import from_module, unstack
from wsl.populations import Classification, Examples
from wsl.symmetry import PermutationSpec, SpecError


class Blocks(nn.Module):
    """A residual perceptron whose layers are numbered and of one kind."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.up = nn.ModuleList([nn.Linear(6, 7), nn.Linear(6, 7)])
        self.down = nn.ModuleList([nn.Linear(7, 6), nn.Linear(7, 6)])

    def forward(self, x):
        x = self.embed(x)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(up(x).relu())
        return self.head(x)


BLOCKS = """
    d = 6, h0 = 7, h1 = 7
    embed.weight: d 5
    embed.bias: d
    head.weight: 3 d
    head.bias: 3
    up.0.weight: h0 d
    up.0.bias: h0
    up.1.weight: h1 d
    up.1.bias: h1
    down.0.weight: d h0
    down.0.bias: d
    down.1.weight: d h1
    down.1.bias: d"""

MARKET = BY_NAME | {"blocks": Network("blocks", Blocks, (5,), BLOCKS)}
OTHERS = {"residual": "mlp", "blocks": "residual", "attention": "mlp"}
"""Networks that rows are tried on, and one that each is not."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One initialiser, and the network that it is tried on."""

    make: Callable[[], Initializer]
    name: str = "residual"

    @property
    def network(self):
        return MARKET[self.name]

    @property
    def classes(self):
        return int(self.network.spec.shapes["head.weight"][0])

    def start(self, **changes):
        """A question with everything that may be known: members, good and held-out ones with their
        tasks, a fitted generator with a code, labelled data, a larger network.
        """
        known = copy.deepcopy(_known(Row(_nobody, self.name)))  # what one test does, no other sees
        return dataclasses.replace(known, **changes)


def _nobody():
    raise AssertionError("what is known does not depend on who is asked")


@functools.cache
def _known(row):
    network, spec = row.network, row.network.spec
    members = TrainingMembers(
        network.weights(12),
        torch.linspace(0, 1, 12)[:, None],
        examples=LabelledExamples(_examples(row, 12, seed=1)),
        tasks=_Tasks(row),
    )
    fitted = LatentDiffusion(spec, latent=4, hidden=16, blocks=1, code=WeightPCA)
    fitted.fit(members, steps=2)
    return Start(
        network.make(),
        spec=spec,
        make=network.make,
        members=members,
        good=members.rows(torch.arange(6, 12)),
        held_out=network.weights(5, seed=9),
        fitted=fitted,
        condition=0.9,
        data=_data(row),
        larger=_larger(spec),
    )


def _examples(row, tasks, seed):
    shape = (tasks, row.classes, 4, *row.network.input_shape)
    return torch.randn(shape, generator=rng(seed))


def _data(row):
    images, labels = LabelledExamples(_examples(row, 1, seed=2)).flat()
    part = Examples(images[0], labels[0])
    return Classification(part, part, part)


def _larger(spec):
    """Random weights of a network with twice as many units in every group that is no family."""
    families = {group.name for group in spec.declared if group.per}

    def wider(found):
        size = int(found[2]) * (1 if found[1] in families else 2)
        return f"{found[1]} = {size}"

    wide = PermutationSpec.parse(re.sub(r"(\w+) = (\d+)", wider, str(spec)))
    params = {
        name: torch.rand(shape, generator=rng(3))
        if spec.shapes[name]
        else torch.ones(shape, dtype=torch.int64)
        for name, shape in wide.shapes.items()
    }
    return Larger(params, wide)


@dataclasses.dataclass(frozen=True)
class _Tasks:
    row: Row

    def draw(self, n, *, generator=None):
        row = self.row
        shape = (2 * n, row.classes, 4, *row.network.input_shape)
        both = LabelledExamples(torch.randn(shape, generator=generator))
        return Episodes(both.of(slice(n)), both.of(slice(n, None)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def declares_what_it_needs(row):
    assert isinstance(row.make(), Initializer)
    assert isinstance(type(row.make()).needs, frozenset)
    assert all(hasattr(row.start(), need) for need in row.make().needs)


def gives_networks_that_load(row):
    drawn = starting_weights(row.make(), row.start(), 4, generator=rng())
    assert row.network.spec.validate(drawn) == (4,)
    for theta in unstack(drawn):
        assert all(tensor.isfinite().all() for tensor in theta.values())
        row.network.make().load_state_dict(theta)


def is_decided_by_generator_and_seed(row):
    def run(noise, **changes):
        torch.manual_seed(noise)
        asked, before = row.start(**changes), torch.get_rng_state()
        drawn = starting_weights(row.make(), asked, 4, generator=rng(5))
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert equal(run(0), run(1))


def leaves_what_it_is_given_alone(row):
    asked, before = row.start(), row.start()
    drawn = starting_weights(row.make(), asked, 4, generator=rng())
    for tensor in drawn.values():
        tensor.zero_()
    assert equal(asked.members.params, before.members.params)
    assert equal(asked.good, before.good)
    assert equal(asked.held_out, before.held_out)
    assert equal(asked.fitted.state_dict(), before.fitted.state_dict())


def starts_a_model_in_place_and_keeps_its_dtype(row):
    model, before = row.network.make().double(), from_module(row.network.make().double())
    assert initialize(model, row.make(), start=row.start(), condition=0.9, seed=1) is model
    after = from_module(model)
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert not equal(after, before)


def another_architecture_is_refused(row):
    with pytest.raises(SpecError):
        initialize(BY_NAME[OTHERS[row.name]].make(), row.make(), start=row.start(), seed=1)


def says_what_is_missing(row):
    method, unknown = row.make(), Start(row.network.make())
    if method.needs:
        with pytest.raises(ValueError, match=f"{type(method).__name__} needs {min(method.needs)}"):
            starting_weights(method, unknown, 2, generator=rng())
    else:
        assert starting_weights(method, row.start(fitted=None), 2, generator=rng())


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
