"""mergekit's YAML: the field's examples parse and run, typos are refused, values find tensors."""

import pytest
import torch

from wsl.merging import Average, ModelStock, Slerp, TaskArithmetic
from wsl.merging.mergekit import MergekitMerge, parse
from wsl.merging.mergekit.resolve import depths, layer_of, renumbered, value

LAYERS = [f"model.layers.{i}.{module}.weight" for i in range(3) for module in ("attn", "mlp")]
NAMES = ["embed.weight", *LAYERS, "norm.weight"]


def model(seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 3, generator=rng) for name in NAMES}


def solved(text, *members, base=None):
    return MergekitMerge(parse(text)).solve(list(members), base=base)


def same(a, b):
    assert list(a) == list(b)
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name])


def test_linear_and_slerp():
    a, b = model(1), model(2)
    text = """
merge_method: linear
models:
  - model: a
    parameters: {weight: 1.0}
  - model: b
    parameters: {weight: 0.3}
dtype: float16
"""
    found = solved(text, a, b)
    assert {t.dtype for t in found.values()} == {torch.float16}
    same({n: t.float().half() for n, t in Average([1, 0.3]).solve([a, b]).items()}, found)
    text = """
slices:
  - sources:
      - {model: a, layer_range: [0, 3]}
      - {model: b, layer_range: [0, 3]}
merge_method: slerp
base_model: a
parameters:
  t:
    - filter: attn
      value: [0, 0.5, 1]
    - filter: mlp
      value: [1, 0.5, 0]
    - value: 0.5
dtype: float32
"""
    found = solved(text, b, base=a)
    torch.testing.assert_close(found["model.layers.0.attn.weight"], a["model.layers.0.attn.weight"])
    torch.testing.assert_close(found["model.layers.2.attn.weight"], b["model.layers.2.attn.weight"])
    torch.testing.assert_close(found["model.layers.0.mlp.weight"], b["model.layers.0.mlp.weight"])
    half = Slerp().solve([a, b])
    torch.testing.assert_close(found["norm.weight"], half["norm.weight"])


def test_task_vectors_with_the_base_among_the_models():
    base, a, b = (model(seed) for seed in range(3))
    text = """
models:
  - model: base
  - model: a
    parameters: {density: 0.5, weight: 0.5}
  - model: b
    parameters: {density: 0.8, weight: 0.3}
merge_method: METHOD
base_model: base
parameters: {normalize: false, int8_mask: true}
"""
    plain = solved(text.replace("METHOD", "task_arithmetic"), a, b, base=base)
    same(plain, TaskArithmetic(weights=[0.5, 0.3]).solve([a, b], base=base))
    for method in ("ties", "dare_ties", "dare_linear", "breadcrumbs", "della", "sce"):
        found = solved(text.replace("METHOD", method), a, b, base=base)
        assert all(tensor.isfinite().all() for tensor in found.values())
        assert not torch.equal(found["norm.weight"], base["norm.weight"])
    stock = solved(text.replace("METHOD", "model_stock"), a, b, base=base)
    same(stock, ModelStock(clamped=False).solve([a, b], base=base))


def test_ties_is_elected_tensor_by_tensor_with_each_density():
    base = {"w": torch.zeros(3)}
    text = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {density: 0.67, weight: 1}}
  - {model: b, parameters: {density: 0.34, weight: 1}}
"""
    a, b = {"w": torch.tensor([3.0, -1, 0.5])}, {"w": torch.tensor([-1.0, -2, 0.1])}
    assert solved(text, a, b, base=base)["w"].tolist() == [3, -1.5, 0]


def test_layers_are_stacked_anew():
    a, b = model(1), model(2)
    text = """
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
merge_method: passthrough
dtype: float32
"""
    found = solved(text, a, b)
    assert sorted({layer_of(n) for n in found if layer_of(n) is not None}) == [0, 1, 2, 3]
    assert torch.equal(found["model.layers.2.mlp.weight"], b["model.layers.1.mlp.weight"])
    assert torch.equal(found["embed.weight"], a["embed.weight"])
    assert torch.equal(found["norm.weight"], b["norm.weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_method: ties\nmodels: []\nnormalise: true", "key 'normalise' is unknown"),
        (
            "merge_method: ties\nmodels: [{model: a, parameters: {wieght: 1}}]",
            r"key 'wieght' is unknown \(did you mean 'weight'\?\)",
        ),
        ("models: []", "has no merge_method"),
        ("merge_method: ties", "needs models or slices"),
        ("[1]", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("merge_method: ties\nmodels: [{parameters: {}}]", r"models\[0\]: names no model"),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [3, 1]}]}]",
            "layer_range must be",
        ),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_methods_and_values_that_are_missing_are_named():
    text = "merge_method: METHOD\nbase_model: base\nmodels: [{model: a}]"
    with pytest.raises(ValueError, match=r"'tise' does not exist here \(did you mean 'ties'\?\)"):
        MergekitMerge(parse(text.replace("METHOD", "tise")))
    with pytest.raises(ValueError, match="model 1 has no weight"):
        solved(text.replace("METHOD", "ties"), model(1), base=model(0))
    with pytest.raises(ValueError, match="names the base base; give it"):
        solved(text.replace("METHOD", "ties"), model(1))
    with pytest.raises(ValueError, match="names 1 models besides its base, got 2"):
        solved(text.replace("METHOD", "ties"), model(1), model(2), base=model(0))


def test_depth_and_filters():
    depth = depths(NAMES)
    assert [depth[n] for n in NAMES] == [0, 0, 0, 0.5, 0.5, 1, 1, 1]
    assert value([0, 1], "x", 0.25) == 0.25
    assert value([0, 10, 0], "x", 0.75) == 5
    assert value([{"filter": "attn", "value": 1}, {"filter": "*", "value": 2}], "mlp", 0) == 2
    assert value([{"filter": "attn", "value": 1}], "mlp", 0) is None
    assert renumbered("model.layers.7.mlp.weight", 2) == "model.layers.2.mlp.weight"
    assert renumbered("h.0.w", 11) == "h.11.w"
    assert layer_of("norm.weight") is None


def test_what_is_about_text_is_noted():
    told = parse("merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: union")
    assert told.notes == ("tokenizer_source is about text and has no effect on weights",)
