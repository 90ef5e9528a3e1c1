"""Learned matching lowers the loss between two networks and leaves that of both ends alone."""

import dataclasses
import functools

import pytest
import torch
import torch.nn.functional as F
from attention_networks import LLAMA, VIT, Transformer, inputs, weights

from wsl import params
from wsl.matching import (
    CircuitMatching,
    LearnedMatching,
    WeightMatching,
    fold_norms,
    folded_spec,
    match,
)
from wsl.matching.solvers.learned import moved_value
from wsl.symmetry import LinearMaps, Permutation, symmetry_spec, with_rotations

SHAPES = {
    "layer norm": dataclasses.replace(VIT, depth=1),
    "rms norm and rotary positions": dataclasses.replace(LLAMA, depth=1),
}
START = CircuitMatching(max_sweeps=1)
MATRICES = ("orthogonal", "linear", "rotation")
each_shape = pytest.mark.parametrize("name", SHAPES)


@functools.cache
def problem(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    model, x = Transformer(shape).eval(), inputs(shape)
    spec = with_rotations(symmetry_spec(model, x), model, x)
    ends = [
        fold_norms(spec, {k: t.float() for k, t in weights(model, seed).items()}) for seed in (1, 2)
    ]

    def loss(theta, batch):
        logits = params.call(model, theta, batch)
        target = params.call(model, ends[0], batch).softmax(-1)
        return F.cross_entropy(logits.flatten(0, -2), target.flatten(0, -2))

    return folded_spec(spec), *ends, loss, [inputs(shape, seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [*((name, MATRICES) for name in SHAPES), ("layer norm", ("permutation", *MATRICES))],
    ids=[*SHAPES, "permutations too"],
)
def test_the_loss_between_falls_and_that_of_the_ends_stays(name, kinds):
    spec, a, b, loss, batches = problem(name)
    begun = match(spec, a, b, START)
    learned = LearnedMatching(loss, batches, steps=15, rate=0.03, start=START, kinds=kinds)
    found = match(spec, a, b, learned)
    middle = [
        float(sum(loss({k: (a[k] + moved[k]) / 2 for k in a}, batch) for batch in batches))
        for moved in (begun(b), found(b))
    ]
    assert middle[1] < middle[0]
    for batch in batches:
        torch.testing.assert_close(loss(found(b), batch), loss(b, batch), rtol=1e-4, atol=1e-4)
    assert found.losses.shape == (15,)
    if kinds == MATRICES:
        assert found.permutation == begun.permutation
    element = found.element.permutation
    assert Permutation(element.spec, found.permutation.indices) == element
    assert not any(tensor.requires_grad for tensor in found(b).values())


@each_shape
def test_moves_stay_in_the_group_and_a_move_of_zero_leaves_the_value(name):
    spec = problem(name)[0]
    only = dataclasses.replace(spec, units=tuple(u for u in spec.units if u.mixes))
    values = []
    for unit, value in zip(only.units, LinearMaps.random(only).values, strict=True):
        size = value.shape[-1] - (unit.form == "centred")
        shape = value.shape if unit.kind == "rotation" else (*value.shape[:-2], size, size)
        torch.testing.assert_close(moved_value(unit, value, torch.zeros(shape).double()), value)
        values.append(moved_value(unit, value, torch.randn(shape).double()))
    LinearMaps(only, tuple(values))


def test_the_same_seed_gives_the_same_losses():
    spec, a, b, loss, batches = problem("layer norm")
    learned = LearnedMatching(loss, batches, steps=3, start=START)
    one, two = match(spec, a, b, learned), match(spec, a, b, learned)
    assert torch.equal(one.losses, two.losses)
    other = match(spec, a, b, dataclasses.replace(learned, seed=1))
    assert not torch.equal(other.losses, one.losses)


def test_only_the_kinds_asked_for_are_trained():
    spec, a, b, loss, batches = problem("rms norm and rotary positions")
    begun = match(spec, a, b, START)
    found = match(
        spec, a, b, LearnedMatching(loss, batches, steps=3, kinds=("rotation",), start=START)
    )
    assert found.permutation == begun.permutation
    units = found.element.spec.units
    for unit, old, new in zip(
        units, begun.element.maps.values, found.element.maps.values, strict=True
    ):
        assert torch.allclose(old, new) == (unit.kind != "rotation")


def test_without_matrices_the_start_is_returned():
    spec, a, b, loss, batches = problem("layer norm")
    plain = spec.without_units()
    learned = LearnedMatching(loss, batches, start=WeightMatching())
    assert match(plain, a, b, learned).permutation == match(plain, a, b).permutation


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="300 steps on 0 batches; at least one of each"):
        LearnedMatching(F.mse_loss, [])
    with pytest.raises(ValueError, match=r"middle is \(0\.6, 0\.4\); it must be two numbers"):
        LearnedMatching(F.mse_loss, [1], middle=(0.6, 0.4))
