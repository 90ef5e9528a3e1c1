"""Rotary phases planted beside a permutation are found where the weights lie, and written."""

import dataclasses
import functools

import pytest
import torch
from attention_networks import GPTJ, LLAMA, Transformer, inputs, weights

from wsl import params, permutation_spec
from wsl.matching import CircuitMatching, WeightMatching, match, match_sources
from wsl.matching.large import cuts as streamed
from wsl.matching.large import distances
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    Rescaling,
    SymmetryElement,
    symmetry_spec,
    with_rotations,
)

SHAPES = {
    "grouped queries": LLAMA,
    "interleaved pairs": dataclasses.replace(GPTJ, depth=1),
    "one head of keys": dataclasses.replace(LLAMA, kv=1, depth=1),
}
each_shape = pytest.mark.parametrize("name", SHAPES)


@functools.cache
def network(name):
    """A rotary transformer, with rotations and permutations in its specification."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    model, x = Transformer(shape).eval(), inputs(shape)
    proven = with_rotations(symmetry_spec(model, x), model, x)
    turning = tuple(unit for unit in proven.units if unit.kind == "rotation")
    spec = dataclasses.replace(permutation_spec(model, x), units=turning)
    return spec, model, x


def planted(spec, seed=1):
    """A random permutation, then random phases."""
    rng = torch.Generator().manual_seed(seed)
    maps = LinearMaps.random(spec, rng)
    turning = LinearMaps(spec, tuple(value / value.abs() for value in maps.values))
    return SymmetryElement(Permutation.random(spec, rng), Rescaling.identity(spec), turning)


def largest(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def noisy(theta, amount, seed=3):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: tensor + amount * tensor.std() * torch.randn(tensor.shape, generator=rng)
        for name, tensor in theta.items()
    }


@each_shape
def test_planted_phases_and_permutations_are_undone(name):
    spec, model, x = network(name)
    a = weights(model)
    b = planted(spec)(a)
    found = match_sources(spec, a, b)
    assert largest(a, found(b)) < 1e-9
    assert found.converged
    assert found.permutation.spec == spec
    inner = sum(float((a[key] * tensor).sum()) for key, tensor in found(b).items())
    assert found.objective == pytest.approx(inner)
    f = params.call(model, {k: t.float() for k, t in found(b).items()}, x)
    torch.testing.assert_close(f, params.call(model, {k: t.float() for k, t in b.items()}, x))


@each_shape
def test_noise_of_half_a_deviation_leaves_the_permutation_and_moves_phases_little(name):
    spec, model, _ = network(name)
    a, g = weights(model), planted(spec)
    b = g(noisy(a, 0.5))
    found = match_sources(spec, a, b)
    back = found.element @ g
    assert found.permutation == ~g.permutation
    for value in back.maps.values:
        assert float((value - 1).abs().mean()) < 0.25
    assert distances(a, b, found.element)[1] == pytest.approx(
        sum(float((a[key] - t).square().sum()) for key, t in found(b).items()) ** 0.5
    )


@each_shape
def test_the_objective_is_that_of_matching_in_memory_or_more(name):
    spec, model, _ = network(name)
    a, b = weights(model), planted(spec)(noisy(weights(model), 0.5))
    here = match(spec, a, b, CircuitMatching())
    there = match_sources(spec, a, b, matcher=CircuitMatching())
    assert there.objective >= here.objective * (1 - 1e-6)


def test_permutations_alone_do_not_reach_it():
    spec, model, _ = network("grouped queries")
    a = weights(model)
    b = planted(spec)(a)
    plain = match_sources(spec, a, b, matcher=WeightMatching())
    assert plain.element is plain.permutation
    assert match_sources(spec, a, b).objective > plain.objective * 1.05


def test_other_matrices_stand_still_and_it_is_said():
    spec, model, x = network("grouped queries")
    full = symmetry_spec(model, x)
    linear = tuple(unit for unit in full.units if unit.kind == "linear")
    wider = dataclasses.replace(full, units=(*spec.units, *linear))
    a = weights(model)
    b = planted(spec)(a)
    found = match_sources(wider, a, b)
    assert largest(a, found(b)) < 1e-9
    assert set(found.notes) == {unit.group for unit in linear}
    assert "linear maps stand still" in next(iter(found.notes.values()))


def test_heads_are_told_by_queries_and_keys_where_values_are_alike():
    spec, model, _ = network("grouped queries")
    a = weights(model)
    rng = torch.Generator().manual_seed(0)
    heads = next(unit.group for unit in spec.units)
    queries = {place.tensor for unit in spec.units for place in unit.places}
    for place in spec.occurrences(heads):
        if place.tensor not in queries:
            a[place.tensor] = torch.randn(a[place.tensor].shape, generator=rng).double() * 1e-3
    b = planted(spec)(noisy(a, 0.3))
    noise = {name: 0.01 * torch.randn(t.shape, generator=rng).double() for name, t in a.items()}
    for place in spec.occurrences(heads):
        if place.tensor not in queries:
            b[place.tensor] = b[place.tensor] + noise[place.tensor]
    found = match_sources(spec, a, b).permutation
    assert torch.equal(found.indices[heads], (~planted(spec).permutation).indices[heads])


def test_independent_networks_are_never_worse_off_and_parts_change_nothing(monkeypatch):
    spec, model, _ = network("grouped queries")
    a, b = weights(model, 1), weights(model, 2)
    found = match_sources(spec, a, b)
    still = sum(float((a[key] * b[key]).sum()) for key in a)
    assert found.objective > still
    assert found.objective >= match_sources(spec, a, b, matcher=WeightMatching()).objective
    monkeypatch.setattr(streamed, "PART", 64)
    assert match_sources(spec, a, b).objective == pytest.approx(found.objective)
    nothing = match_sources(spec, a, {key: -t for key, t in a.items()})
    assert nothing.objective >= -sum(float(t.square().sum()) for t in a.values())
