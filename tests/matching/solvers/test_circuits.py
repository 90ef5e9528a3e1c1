"""Transformers are aligned by their circuits: planted heads, gauges and phases are recovered."""

import dataclasses
import functools

import pytest
import torch
from attention_networks import BERT, GPT2, GPTJ, LLAMA, VIT, Transformer, inputs, weights

from wsl import params
from wsl.matching import CircuitMatching, WeightMatching, match
from wsl.matching.solvers.heads import ends, head_blocks, matched_heads, negative_distances
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    PermutationSpec,
    SymmetryElement,
    mixing,
    symmetry_spec,
    with_rotations,
)

SHAPES = {
    "gpt2": dataclasses.replace(GPT2, depth=1),
    "bert": dataclasses.replace(BERT, depth=1),
    "vit": dataclasses.replace(VIT, depth=1),
    "grouped queries and rotary positions": LLAMA,
    "interleaved rotary positions": dataclasses.replace(GPTJ, depth=1),
    "one head of keys": dataclasses.replace(LLAMA, kv=1, depth=1),
}
each_shape = pytest.mark.parametrize("name", SHAPES)


@functools.cache
def network(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    model, x = Transformer(shape).eval(), inputs(shape)
    return with_rotations(symmetry_spec(model, x), model, x), model, x


def planted(spec, *, isometry, seed=1):
    """A random element of all permutations and matrices; an isometry keeps all lengths."""
    only = dataclasses.replace(spec, units=mixing(spec))
    g = SymmetryElement.random(only, torch.Generator().manual_seed(seed), maps=True)
    if not isometry:
        return g
    values = tuple(
        value / value.abs() if value.is_complex() else torch.linalg.qr(value)[0]
        for value in g.maps.values
    )
    return SymmetryElement(g.permutation, g.rescaling, LinearMaps(only, values))


def largest(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@each_shape
@pytest.mark.parametrize("gauge", ["orthogonal", "general"])
def test_planted_heads_gauges_and_phases_are_undone(name, gauge):
    spec, model, x = network(name)
    a = weights(model)
    g = planted(spec, isometry=gauge == "orthogonal")
    b = g(a)
    found = match(spec, a, b, CircuitMatching(gauge=gauge))
    assert largest(a, found(b)) < 1e-9
    assert found.converged
    assert found.permutation.spec == spec
    f = params.call(model, {k: t.float() for k, t in found(b).items()}, x)
    torch.testing.assert_close(f, params.call(model, {k: t.float() for k, t in b.items()}, x))


@each_shape
def test_orthogonal_gauges_are_undone_in_single_precision(name):
    spec, model, _ = network(name)
    a = {key: tensor.float() for key, tensor in weights(model).items()}
    b = planted(spec, isometry=True)(a)
    assert largest(a, match(spec, a, b, CircuitMatching())(b)) < 1e-5


@each_shape
def test_noise_of_half_a_deviation_leaves_the_heads_where_they_are(name):
    spec, model, _ = network(name)
    a = weights(model)
    rng = torch.Generator().manual_seed(3)
    noisy = {
        key: tensor + 0.5 * tensor.std() * torch.randn(tensor.shape, generator=rng)
        for key, tensor in a.items()
    }
    g = planted(spec, isometry=True)
    found = match(spec, a, g(noisy), CircuitMatching()).permutation
    back = ~g.permutation
    for block in head_blocks(spec):
        for group in (block.group, block.members):
            if group:
                assert torch.equal(found.indices[group], back.indices[group])


def test_it_comes_closer_than_permutations_alone_and_keeps_the_function():
    spec, model, x = network("vit")
    a, b = weights(model, 1), weights(model, 2)
    plain, found = match(spec, a, b, WeightMatching()), match(spec, a, b, CircuitMatching())
    general = match(spec, a, b, CircuitMatching(gauge="general", max_sweeps=2))
    assert found.objective > plain.objective
    assert general.objective >= found.objective - 1e-6
    assert (found.trace.diff() >= -1e-9).all()
    inner = sum(float((a[key] * tensor).sum()) for key, tensor in found(b).items())
    torch.testing.assert_close(inner, found.objective)
    for result in (found, general):
        moved = {key: tensor.float() for key, tensor in result(b).items()}
        expected = params.call(model, {k: t.float() for k, t in b.items()}, x)
        torch.testing.assert_close(params.call(model, moved, x), expected)


@each_shape
def test_circuits_do_not_see_gauges_inside_heads(name):
    spec, model, _ = network(name)
    a, b = weights(model, 1), weights(model, 2)
    only = dataclasses.replace(spec, units=mixing(spec))
    maps = LinearMaps.random(only, torch.Generator().manual_seed(4))
    for block in head_blocks(only):
        one = matched_heads(only, block, (a, b))
        other = matched_heads(only, block, (maps(a), maps(b)))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_scores_are_distances_of_circuits_that_nobody_builds():
    spec, model, _ = network("grouped queries and rotary positions")
    only = dataclasses.replace(spec, units=mixing(spec))
    a, b = weights(model, 1), weights(model, 2)
    block = head_blocks(only)[0]
    unit = next(unit for unit in block.units if unit.kind == "linear")
    (v, o), (w, p) = (ends(only, unit, theta, members=block.members) for theta in (a, b))
    mine = torch.einsum("hmdk,hxdc->hmkc", o, v)
    theirs = torch.einsum("hmdk,hxdc->hmkc", p, w)
    apart = mine[:, :, None, None] - theirs
    slow = -apart.square().sum((-2, -1))
    torch.testing.assert_close(negative_distances(unit, (v, o), (w, p)), slow)


def test_heads_are_told_apart_by_what_stands_on_them_alone():
    text = """\
    n = 3, d = 2 per n
    gain: n
    v: (n d) 4
    o: 4 (n d)
    linear d: v[0,0,1] / o[1,0,1]
    """
    spec = PermutationSpec.parse("\n".join(line.strip() for line in text.splitlines()))
    a = {"gain": torch.tensor([1.0, 2.0, 3.0]), "v": torch.ones(6, 4), "o": torch.ones(4, 6)}
    b = {**a, "gain": torch.tensor([3.0, 1.0, 2.0])}
    assert match(spec, a, b, CircuitMatching()).permutation.indices["n"].tolist() == [1, 2, 0]


def test_without_matrices_it_is_weight_matching():
    spec, model, _ = network("gpt2")
    a, b = weights(model, 1), weights(model, 2)
    plain = spec.without_units()
    found = match(plain, a, b, CircuitMatching())
    assert found.permutation == match(plain, a, b, WeightMatching()).permutation
    assert isinstance(found.permutation, Permutation)


def test_a_stack_is_matched_row_by_row():
    spec, model, _ = network("vit")
    a = weights(model)
    rows = [planted(spec, isometry=True, seed=seed)(a) for seed in (1, 2)]
    found = match(spec, a, params.stack(rows), CircuitMatching())
    moved = found(params.stack(rows))
    assert all(largest(a, row) < 1e-9 for row in params.unstack(moved))


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="gauge is 'any'; it must be 'orthogonal' or 'general'"):
        CircuitMatching(gauge="any")
    with pytest.raises(ValueError, match="max_sweeps is 0, but at least one is needed"):
        CircuitMatching(max_sweeps=0)
