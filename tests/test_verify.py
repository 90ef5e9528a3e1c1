"""Verification accepts every golden specification and refuses wrong ones, among them the errors of published ones."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import Permutation, PermutationSpec, SpecError, verify
from wsl.symmetry.double import Double


def changed(name, *replacements):
    """A golden specification with some of its text replaced."""
    text = BY_NAME[name].golden
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return PermutationSpec.parse(text)


def proof(name, spec, **options):
    return verify(spec, BY_NAME[name].make(), BY_NAME[name].inputs(), **options)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_golden_specifications_are_proved(network):
    result = verify(network.spec, network.make(), network.inputs())
    assert result.ok
    assert result.whole < 1e-13
    assert set(result.groups) == set(network.spec.groups)
    assert max(result.groups.values()) < 1e-13


WRONG = {
    "logits move": ("mlp", ["out"], [
        ("h2 = 6", "h2 = 6, out = 4"), ("4.weight: 4", "4.weight: out"), ("4.bias: 4", "4.bias: out"),
    ]),
    "batch norm without running statistics": ("residual", ["c2"], [
        ("bn1.running_mean: c2", "bn1.running_mean: 7"), ("bn1.running_var: c2", "bn1.running_var: 7"),
    ]),
    "batch norm without running mean": ("residual", ["c2"], [("bn1.running_mean: c2", "bn1.running_mean: 7")]),
    "batch norm without running variance": ("residual", ["c1"], [("bn2.running_var: c1", "bn2.running_var: 5")]),
    "depthwise outputs without inputs": ("depthwise", ["c1"], [
        ("expand.weight: c1", "expand.weight: 5"), ("expand.bias: c1", "expand.bias: 5"),
    ]),
    "gates apart": ("gru", ["h2"], [
        ("h1 = 7", "h1 = 7, h2 = 7"), ("weight_ih_l0: (3 h1)", "weight_ih_l0: h1+h2+h1"),
        ("weight_hh_l0: (3 h1)", "weight_hh_l0: h1+h2+h1"), ("bias_ih_l0: (3 h1)", "bias_ih_l0: h1+h2+h1"),
        ("bias_hh_l0: (3 h1)", "bias_hh_l0: h1+h2+h1"),
    ]),
    "gates permuted": ("gru", ["gate"], [("h1 = 7", "h1 = 7, gate = 3"), ("(3 h1)", "(gate h1)")]),
    "residual stream apart": ("residual", ["c1"], [("outer.bias: c1", "outer.bias: 5")]),
    "pixels apart from their channel": ("cnn", ["c2"], [("h1 (c2 4)", "h1 (4 c2)")]),
    "queries across heads": ("attention", ["q"], [
        ("dk1 = 4 per head1", "q = 8"), ("(head1 dk1)+(head1 dk1)", "q+q"), ("(head1 dv1)", "8"), ("head1 = 2, ", ""),
        (", dv1 = 4 per head1", ""),
    ]),
    "layer norm apart": ("layer_norm", ["h1"], [("norm.weight: h1", "norm.weight: 7")]),
    "one axis of a square matrix": ("tied", ["h1"], [("mix.weight: h1 h1", "mix.weight: h1 7")]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "broken", "replacements"), WRONG.values(), ids=WRONG.keys())
def test_wrong_specifications_are_refused(name, broken, replacements):
    result = proof(name, changed(name, *replacements))
    assert not result.ok
    assert set(broken) <= set(result.broken)
    assert all(result.groups[group] > 1e-3 for group in broken)
    assert "DOES NOT preserve" in str(result)
    assert f"{broken[0]}: " in str(result)
    assert "BROKEN" in str(result)


def test_free_channels_of_a_group_norm_are_refused():
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    text = "c = 6\n0.weight: c 2 1 1\n0.bias: c\n1.weight: c\n1.bias: c\n3.weight: 4 c 1 1\n3.bias: 4"
    assert verify(PermutationSpec.parse(text), model, torch.randn(3, 2, 4, 4)).broken == ("c",)


def test_only_the_wrong_group_is_named():
    result = proof("mlp", changed("mlp", ("2.bias: h2", "2.bias: 6")))
    assert result.broken == ("h2",)
    assert result.groups["h1"] < 1e-13


def test_default_weights_would_hide_what_random_ones_show():
    spec = changed("residual", ("bn1.running_mean: c2", "bn1.running_mean: 7"), ("bn1.running_var: c2", "bn1.running_var: 7"))
    network = BY_NAME["residual"]
    model, x = network.make().eval(), network.inputs()

    g = Permutation.random(spec, torch.Generator().manual_seed(0))
    moved = params.call(model, g(params.from_module(model)), x)
    assert torch.allclose(moved, model(x), atol=1e-5)
    assert not verify(spec, model, x).ok


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "depthwise", "dense", "siren", "layer_norm", "gru", "tied"])
def test_every_tie_of_a_golden_specification_is_needed(name):
    assert proof(name, BY_NAME[name].spec, controls=True).loose == ()


def test_a_tie_that_is_not_needed_is_loose():
    result = proof("attention", BY_NAME["attention"].spec, controls=True)
    assert result.ok
    assert {(o.tensor, o.axis, o.segment) for o in result.loose} == {("qkv.bias", 0, 1)}
    assert "qkv.bias axis 0: moves or stays without effect" in str(result)


def test_the_same_seed_gives_the_same_evidence_and_nothing_is_touched():
    network = BY_NAME["residual"]
    model, state = network.make(), torch.get_rng_state()
    before = params.from_module(model)
    first, second = (verify(network.spec, model, network.inputs(), seed=3) for _ in range(2))
    assert (first.whole, dict(first.groups)) == (second.whole, dict(second.groups))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_evidence_is_a_value():
    result = proof("mlp", BY_NAME["mlp"].spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.whole = 0.0
    assert str(result).splitlines()[0].startswith("preserves the function: relative error")
    assert len(str(result).splitlines()) == 3
    assert bool(result) is result.ok is True


def test_a_tolerance_below_rounding_refuses_everything():
    assert not proof("mlp", BY_NAME["mlp"].spec, tolerance=0.0).ok


def test_keyword_arguments_reach_the_model():
    class Scaled(nn.Linear):
        def forward(self, x, *, scale):
            return super().forward(x) * scale

    spec = PermutationSpec.parse("weight: 3 2\nbias: 3")
    assert verify(spec, Scaled(2, 3), torch.randn(4, 2), kwargs={"scale": torch.tensor(2.0)}).whole == 0


def test_meta_weights_are_refused():
    with torch.device("meta"):
        model = BY_NAME["mlp"].make()
    with pytest.raises(SpecError, match=r"0\.weight: is on the meta device; verify needs weights"):
        verify(BY_NAME["mlp"].spec, model, BY_NAME["mlp"].inputs())


def test_a_specification_of_another_model_is_refused():
    with pytest.raises(SpecError, match="the specification and the weights must come from the same architecture"):
        verify(BY_NAME["cnn"].spec, BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())
    with pytest.raises(SpecError, match=r"0\.weight: axis 0 has size 7, but group 'h1' has size 8"):
        verify(changed("mlp", ("h1 = 7", "h1 = 8")), BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())


def test_shared_memory_cannot_move_two_ways():
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 5, bias=False))
    model[2].weight = model[0].weight
    with pytest.raises(SpecError, match=r"weight: shares its memory with another tensor"):
        verify(PermutationSpec.parse("h = 5\n0.weight: h 5\n2.weight: 5 h"), model, torch.randn(3, 5))


def test_an_output_that_says_nothing_is_refused():
    class Zero(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0

    with pytest.raises(SpecError, match=r"the output has norm 0\.0 for random weights, so nothing can be told"):
        verify(PermutationSpec.parse("h = 3\nweight: h 2\nbias: h"), Zero(2, 3), torch.randn(4, 2))


class Upcasts(nn.Module):
    """A residual branch that asks for lower precision in every way that models do."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)
        self.register_buffer("lost", torch.rand(1).half(), persistent=False)

    def forward(self, x):
        h = self.a(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = h + F.layer_norm(h.float(), (7,), self.norm.weight.float(), self.norm.bias.float()).type_as(h)
        h = h + F.softmax(h, -1, dtype=torch.float32).to(torch.float16) * torch.tensor([0.1], dtype=torch.float32)
        h = h + h.to(torch.bfloat16).half().sum(-1, keepdim=True, dtype=torch.float32) * torch.full((1,), 0.3).float()
        h = h * self.lost + torch.zeros(h.shape, dtype=torch.float32).copy_(h)
        return self.b((h.to(torch.complex64) * torch.ones(1, dtype=torch.complex64)).real).float()


def test_a_network_that_asks_for_low_precision_is_proved_in_float64():
    model, x = Upcasts(), torch.randn(4, 5)
    spec = PermutationSpec.parse("h = 7\na.weight: h 5\na.bias: h\nnorm.weight: h\nnorm.bias: h\nb.weight: 3 h\nb.bias: 3")
    result = verify(spec, model, x)
    assert 0 < result.whole < 1e-13
    assert model.a.weight.dtype == torch.float32


def test_constants_outside_the_state_dict_are_widened_where_they_are_read():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.mixing = nn.Linear(5, 7), nn.Linear(6, 3), torch.ones(7, 6)

        def forward(self, x):
            return self.b(self.a(x).float().tanh() @ self.mixing)

    spec = PermutationSpec.parse("h = 7\na.weight: h 5\na.bias: h\nb.weight: 3 6\nb.bias: 3")
    assert verify(spec, Mixed(), torch.randn(4, 5)).whole < 1e-13


def test_what_the_mode_does_to_each_kind_of_operation():
    with Double():
        assert torch.zeros(3, dtype=torch.float16).dtype == torch.float64
        assert torch.arange(3, dtype=torch.float32).dtype == torch.float64
        assert torch.tensor([1.0], dtype=torch.bfloat16).dtype == torch.float64
        assert torch.ones(2, dtype=torch.long).float().dtype == torch.float64
        assert torch.ones(2, dtype=torch.complex64).dtype == torch.complex128
        assert torch.ones(2, dtype=torch.int32).dtype == torch.int32
        kept = torch.from_numpy(np.zeros((2, 2), dtype=np.float32))
        kept[0] += 1
        assert kept.sum() == 2
        assert torch.ones(2, dtype=torch.float64).view(torch.int64).shape == (2,)
