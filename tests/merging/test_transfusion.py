"""A task vector moved onto a planted base is the planted fine-tune."""

import dataclasses

import pytest
import torch
from attention_networks import GPT2, LLAMA, Transformer, inputs, weights
from networks import BY_NAME

from wsl.matching import WeightMatching
from wsl.merging import head_groups, spectral_heads, transfuse
from wsl.params import call, is_learned
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    SymmetryElement,
    mixing,
    symmetry_spec,
    with_rotations,
)


def fine_tuned(base, size=0.1, seed=5):
    rng = torch.Generator().manual_seed(seed)
    return {
        n: t + size * torch.randn(t.shape, generator=rng, dtype=t.dtype) if is_learned(n, t) else t
        for n, t in base.items()
    }


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "residual", "resnet20", "transformer", "attention", "dense"]
)
def test_onto_a_permuted_base_it_is_the_permuted_fine_tune_to_the_bit(name):
    network = BY_NAME[name]
    spec, base = network.spec, network.weights()
    planted = Permutation.random(spec, torch.Generator().manual_seed(1))
    tuned = fine_tuned(base)
    found = transfuse(spec, tuned, base, onto=planted(base))
    golden = planted(tuned)
    for key, tensor in found.params.items():
        wanted = golden[key] if is_learned(key, tensor) else planted(base)[key]
        assert torch.equal(tensor, wanted), key
    wrong = {n: planted(base)[n] + tuned[n] - t for n, t in base.items()}
    assert any(not torch.allclose(wrong[n].double(), golden[n].double()) for n in golden)


def test_scale_goes_from_the_other_base_to_the_whole_task_and_beyond():
    network = BY_NAME["mlp"]
    spec, base, tuned = network.spec, network.weights(), fine_tuned(network.weights())
    onto = Permutation.random(spec, torch.Generator().manual_seed(1))(
        fine_tuned(base, 0.01, seed=8)
    )
    still, half, whole, twice = (
        transfuse(spec, tuned, base, onto=onto, scale=s).params for s in (0.0, 0.5, 1.0, 2.0)
    )
    for key, tensor in onto.items():
        assert torch.equal(still[key], tensor)
        torch.testing.assert_close(half[key], (tensor + whole[key]) / 2)
        torch.testing.assert_close(twice[key], 2 * whole[key] - tensor)


def planted_transformer(shape):
    """A transformer with its specification, and an isometric element of it."""
    shape = dataclasses.replace(shape, depth=1)
    torch.manual_seed(0)
    model, x = Transformer(shape).eval().double(), inputs(shape)
    spec = with_rotations(symmetry_spec(model, x), model, x)
    only = dataclasses.replace(spec, units=mixing(spec))
    g = SymmetryElement.random(only, torch.Generator().manual_seed(1), maps=True)
    values = tuple(
        torch.linalg.qr(v)[0] if unit.kind == "linear" else v / v.abs() if v.is_complex() else v
        for unit, v in zip(only.units, g.maps.values, strict=True)
    )
    planted = SymmetryElement(g.permutation, g.rescaling, LinearMaps(only, values))
    return model, x, spec, planted


SHAPES = pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])


@SHAPES
def test_heads_are_assigned_by_spectra_in_any_order_of_the_stream_and_any_turn_inside(shape):
    model, _, spec, planted = planted_transformer(shape)
    base = weights(model)
    found = spectral_heads(spec, planted(base), base)
    groups = head_groups(spec)
    assert groups
    still = Permutation.identity(spec).indices
    for group, index in found.indices.items():
        heads = group in groups
        assert torch.equal(index, (planted.permutation.indices if heads else still)[group])
    assert any(not torch.equal(found.indices[group], still[group]) for group in groups)


@SHAPES
def test_heads_that_were_mixed_inside_carry_their_task_over(shape):
    model, x, spec, planted = planted_transformer(shape)
    base = weights(model)
    tuned = fine_tuned(base, 0.05)
    found = transfuse(spec, tuned, base, onto=planted(base))
    expected = call(model, tuned, x)
    torch.testing.assert_close(call(model, found.params, x), expected, rtol=1e-6, atol=1e-6)
    naive = {n: planted(base)[n] + tuned[n] - t for n, t in base.items()}
    assert not torch.allclose(call(model, naive, x), expected, rtol=1e-2, atol=1e-2)


def test_a_matcher_can_be_chosen_and_shapes_must_be_alike():
    network = BY_NAME["mlp"]
    spec, base = network.spec, network.weights()
    found = transfuse(spec, fine_tuned(base), base, onto=base, matcher=WeightMatching(max_sweeps=1))
    assert found.match.sweeps == 1
    name, *_ = base
    with pytest.raises(ValueError, match=name):
        transfuse(spec, {**base, name: torch.ones(1, 1)}, base, onto=base)
