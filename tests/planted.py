"""Populations small enough to train in a second, and generators whose answer is known."""

import functools

import torch
from torch.nn import functional as F

from wsl.generative import FitReport, LabelledExamples, Start, TrainingMembers
from wsl.params import stack, unstack
from wsl.populations import (
    AdamW,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    build_architecture,
    digits,
    initial_population,
    train_population,
)
from wsl.symmetry import Permutation, permutation_spec

ARCHITECTURE = {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 12, 10]}
STEPS = (20, 150)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make():
    return build_architecture(ARCHITECTURE)


@functools.cache
def data():
    return digits()


@functools.cache
def spec():
    return permutation_spec(make().eval(), data().test.images[:2])


@functools.cache
def trained(first, count):
    """Classifiers of ``count`` seeds from ``first``, after few and after many steps."""
    seeds = torch.arange(first, first + count)
    found = train_population(
        make(),
        initial_population(make, seeds.tolist()),
        F.cross_entropy,
        batches=SampledBatches(
            *data().train, seeds=seeds, batch_size=32, fraction=torch.ones(count)
        ),
        members=MemberSettings(lr=torch.full((count,), 5e-3), weight_decay=torch.zeros(count)),
        shared=SharedSettings(optimizer=AdamW(), steps=STEPS[-1], snapshots=STEPS),
    )
    return found.snapshots


MEMBERS = 24


@functools.cache
def start():
    """Members of two checkpoints each, and what arms may know of them."""
    early, late = trained(0, MEMBERS)
    params = {name: torch.cat([early[name], late[name]]) for name in early}
    quality = data().evaluate(make(), params, "val")["accuracy"]
    members = TrainingMembers(
        params, quality[:, None], torch.arange(MEMBERS).repeat(2), reference=int(quality.argmax())
    )
    wanted = float(quality.quantile(0.6))
    held_out = trained(500, 8)[1]
    return Start(
        make(),
        spec=spec(),
        make=make,
        members=members,
        good=members.rows(quality >= wanted),
        held_out=held_out,
        condition=wanted,
    )


def shuffled(params, generator):
    """The same networks with their units in another order."""
    moved = [
        Permutation.random(spec(), rng(int(torch.randint(2**31, (), generator=generator))))(theta)
        for theta in unstack(params)
    ]
    return stack(moved)


class Planted:
    """A generator that answers as told, at any condition."""

    needs = frozenset()

    def __init__(self, answer, *, conditions=1):
        self.answer, self.conditions, self.spec = answer, conditions, spec()
        self.canonicalizer = start().canonicalizer  # fitted once for all of them

    def fit(self, zoo, condition=None, **_):
        return FitReport(len(TrainingMembers.of(zoo, condition)))

    def sample(self, n, *, condition=None, generator=None):
        return self.answer(n, condition, generator)

    def save(self, path):
        raise NotImplementedError

    @classmethod
    def load(cls, path):
        raise NotImplementedError


def memoriser(n, condition, generator):
    """Training checkpoints, permuted."""
    rows = MEMBERS + torch.randint(MEMBERS, (n,), generator=generator)
    return shuffled(start().members.rows(rows), generator)


def fresh(n, condition, generator):
    """Networks of seeds that nobody has seen, trained as the members were."""
    late = trained(900, 12)[1]
    return {name: tensor[:n].clone() for name, tensor in late.items()}


def attentive(n, condition, generator):
    """Trained well if much is asked for, else badly."""
    asked = torch.as_tensor(start().condition if condition is None else condition).flatten()[0]
    late = trained(900, 12)[0 if asked < start().condition - 1e-6 else 1]
    return {name: tensor[:n].clone() for name, tensor in late.items()}


def examples(tasks=6, classes=3, shots=4):
    return LabelledExamples(torch.randn(tasks, classes, shots, 5, generator=rng(3)))
