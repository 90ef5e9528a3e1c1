"""Norms are folded without changing the function; then the stream turns, and is turned back."""

import dataclasses
import functools

import pytest
import torch
from attention_networks import BERT, GPT2, GPTJ, LLAMA, VIT, Transformer, inputs, weights

from wsl import params
from wsl.matching import CircuitMatching, fold_norms, folded_spec, match
from wsl.symmetry import (
    LinearMaps,
    PermutationSpec,
    SpecError,
    SymmetryElement,
    mixing,
    symmetry_spec,
    with_rotations,
)

SHAPES = {
    "gpt2": dataclasses.replace(GPT2, depth=1),
    "vit": dataclasses.replace(VIT, depth=1),
    "llama": LLAMA,
    "gpt-j": dataclasses.replace(GPTJ, depth=1),
}
each_shape = pytest.mark.parametrize("name", SHAPES)


@functools.cache
def network(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    model, x = Transformer(shape).eval().double(), inputs(shape)
    x = x.double() if x.is_floating_point() else x
    return with_rotations(symmetry_spec(model, x), model, x), model, x


def isometry(spec, seed=1):
    only = dataclasses.replace(spec, units=mixing(spec))
    g = SymmetryElement.random(only, torch.Generator().manual_seed(seed), maps=True)
    values = (v / v.abs() if v.is_complex() else v for v in g.maps.values)
    kinds = [unit.kind for unit in only.units]
    values = tuple(
        torch.linalg.qr(v)[0] if kind == "linear" else v
        for kind, v in zip(kinds, values, strict=True)
    )
    return SymmetryElement(g.permutation, g.rescaling, LinearMaps(only, values))


@each_shape
def test_folding_keeps_the_function_and_leaves_gains_of_one(name):
    spec, model, x = network(name)
    theta = weights(model)
    folded = fold_norms(spec, theta)
    torch.testing.assert_close(
        params.call(model, folded, x), params.call(model, theta, x), rtol=1e-9, atol=1e-9
    )
    for key, tensor in folded.items():
        if "norm" in key:
            assert (tensor == (1 if key.endswith("weight") else 0)).all()
    assert list(folded) == list(spec.axes)
    twice = fold_norms(spec, folded)
    assert all(torch.allclose(twice[key], folded[key]) for key in folded)


@each_shape
def test_the_folded_stream_turns_and_without_folding_it_does_not(name):
    spec, model, x = network(name)
    theta = weights(model)
    folded = fold_norms(spec, theta)
    g = SymmetryElement.random(
        dataclasses.replace(folded_spec(spec), units=mixing(folded_spec(spec))),
        torch.Generator().manual_seed(2),
        maps=True,
    )
    expected = params.call(model, folded, x)
    torch.testing.assert_close(params.call(model, g(folded), x), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(params.call(model, g(theta), x), expected, rtol=1e-2, atol=1e-2)


def test_rms_norms_leave_the_whole_orthogonal_group_and_layer_norms_what_keeps_the_mean():
    forms = {name: folded_spec(network(name)[0]).units[-1].form for name in SHAPES}
    assert forms == {"gpt2": "centred", "vit": "centred", "llama": "", "gpt-j": "centred"}
    assert all(PermutationSpec.parse(str(s)) == s for s in [folded_spec(network("gpt2")[0])])


@each_shape
def test_planted_turns_heads_and_units_are_undone_together(name):
    spec, model, _ = network(name)
    turning, a = folded_spec(spec), fold_norms(spec, weights(model))
    b = isometry(turning)(a)
    found = match(turning, a, b, CircuitMatching())
    moved = found(b)
    assert max(float((moved[key] - a[key]).abs().max()) for key in a) < 1e-9


def test_turning_comes_closer_than_permutations_of_the_stream():
    spec, model, _ = network("llama")
    a, b = (fold_norms(spec, weights(model, seed)) for seed in (1, 2))
    few = CircuitMatching(max_sweeps=2)
    turned = match(folded_spec(spec), a, b, few)
    assert turned.objective > match(spec, a, b, few).objective


def test_leading_axes_are_batch():
    spec, model, _ = network("gpt2")
    rows = [weights(model, seed) for seed in (1, 2)]
    stacked = fold_norms(spec, params.stack(rows))
    for i, row in enumerate(rows):
        for key, tensor in fold_norms(spec, row).items():
            torch.testing.assert_close(stacked[key][i], tensor)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = Transformer(dataclasses.replace(GPT2, depth=1))
        self.inside.head.weight = self.inside.embed.weight

    def forward(self, x):
        return self.inside(x)


def test_norms_that_cannot_be_folded_are_refused_by_name():
    bert = dataclasses.replace(BERT, depth=1)
    for model, name in ((Transformer(bert), "blocks.0.norm1.weight"), (Tied(), "inside.norm")):
        spec = symmetry_spec(model, inputs(bert))
        with pytest.raises(SpecError, match=rf"{name}.*: a gain or shift that cannot be folded"):
            folded_spec(spec)
    plain = PermutationSpec.parse("h = 3\na.weight: h 2\nb.weight: 2 h")
    with pytest.raises(SpecError, match="no norm whose gain can be folded"):
        folded_spec(plain)


def test_shifts_need_a_bias_to_go_to():
    text = "h = 3\nnorm.weight: h\nnorm.bias: h\nb.weight: 2 h\nin.weight: h 4"
    line = "scale h: norm.weight[0] norm.bias[0] / b.weight[1]"
    spec = PermutationSpec.parse(f"{text}\n{line}")
    theta = {name: torch.ones(shape) for name, shape in spec.shapes.items()}
    with pytest.raises(SpecError, match=r"norm\.bias: the shift cannot be folded into 'b\.weight'"):
        fold_norms(spec, theta)
    theta["norm.bias"] = torch.zeros(3)
    assert (fold_norms(spec, theta)["norm.weight"] == 1).all()
