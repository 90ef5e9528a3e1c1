"""Verification accepts every golden specification and refuses wrong ones, among them the errors of
published ones.
"""

import dataclasses

import numpy as np
import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import Permutation, PermutationSpec, SpecError, verify
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.double import Double
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import moves_of


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
    "logits move": (
        "mlp",
        ["out"],
        [
            ("h2 = 6", "h2 = 6, out = 4"),
            ("4.weight: 4", "4.weight: out"),
            ("4.bias: 4", "4.bias: out"),
        ],
    ),
    "batch norm without running statistics": (
        "residual",
        ["c2"],
        [
            ("bn1.running_mean: c2", "bn1.running_mean: 7"),
            ("bn1.running_var: c2", "bn1.running_var: 7"),
        ],
    ),
    "batch norm without running mean": (
        "residual",
        ["c2"],
        [("bn1.running_mean: c2", "bn1.running_mean: 7")],
    ),
    "batch norm without running variance": (
        "residual",
        ["c1"],
        [("bn2.running_var: c1", "bn2.running_var: 5")],
    ),
    "depthwise outputs without inputs": (
        "depthwise",
        ["c1"],
        [
            ("expand.weight: c1", "expand.weight: 5"),
            ("expand.bias: c1", "expand.bias: 5"),
        ],
    ),
    "gates apart": (
        "gru",
        ["h2"],
        [
            ("h1 = 7", "h1 = 7, h2 = 7"),
            ("weight_ih_l0: (3 h1)", "weight_ih_l0: h1+h2+h1"),
            ("weight_hh_l0: (3 h1)", "weight_hh_l0: h1+h2+h1"),
            ("bias_ih_l0: (3 h1)", "bias_ih_l0: h1+h2+h1"),
            ("bias_hh_l0: (3 h1)", "bias_hh_l0: h1+h2+h1"),
        ],
    ),
    "gates permuted": ("gru", ["gate"], [("h1 = 7", "h1 = 7, gate = 3"), ("(3 h1)", "(gate h1)")]),
    "residual stream apart": ("residual", ["c1"], [("outer.bias: c1", "outer.bias: 5")]),
    "pixels apart from their channel": ("cnn", ["c2"], [("h1 (c2 4)", "h1 (4 c2)")]),
    "queries across heads": (
        "attention",
        ["q"],
        [
            ("dk1 = 4 per head1", "q = 8"),
            ("(head1 dk1)+(head1 dk1)", "q+q"),
            ("(head1 dv1)", "8"),
            ("head1 = 2, ", ""),
            (", dv1 = 4 per head1", ""),
        ],
    ),
    "layer norm apart": ("layer_norm", ["h1"], [("norm.weight: h1", "norm.weight: 7")]),
    "one axis of a square matrix": ("tied", ["h1"], [("mix.weight: h1 h1", "mix.weight: h1 7")]),
}


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
    text = (
        "c = 6\n0.weight: c 2 1 1\n0.bias: c\n1.weight: c\n1.bias: c\n3.weight: 4 c 1 1\n3.bias: 4"
    )
    assert verify(PermutationSpec.parse(text), model, torch.randn(3, 2, 4, 4)).broken == ("c",)


def test_only_the_wrong_group_is_named():
    result = proof("mlp", changed("mlp", ("2.bias: h2", "2.bias: 6")))
    assert result.broken == ("h2",)
    assert result.groups["h1"] < 1e-13


def test_default_weights_would_hide_what_random_ones_show():
    spec = changed(
        "residual",
        ("bn1.running_mean: c2", "bn1.running_mean: 7"),
        ("bn1.running_var: c2", "bn1.running_var: 7"),
    )
    network = BY_NAME["residual"]
    model, x = network.make().eval(), network.inputs()

    g = Permutation.random(spec, torch.Generator().manual_seed(0))
    moved = params.call(model, g(params.from_module(model)), x)
    assert torch.allclose(moved, model(x), atol=1e-5)
    assert not verify(spec, model, x).ok


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "residual", "depthwise", "dense", "siren", "layer_norm", "gru", "tied"]
)
def test_every_tie_of_a_golden_specification_is_needed(name):
    assert proof(name, BY_NAME[name].spec, controls=True).loose == ()


def test_a_tie_that_is_not_needed_is_loose():
    result = proof("attention", BY_NAME["attention"].spec, controls=True)
    assert result.ok
    assert {(o.tensor, o.axis, o.segment) for o in result.loose} == {("qkv.bias", 0, 1)}
    assert "ties: 20 of 22 are needed" in str(result)
    assert "qkv.bias axis 0 (term 2, factor 1): moves or stays without effect" in str(result)


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
    assert len(str(result).splitlines()) == 2
    assert bool(result) is result.ok is True


def test_a_tolerance_below_rounding_refuses_everything():
    assert not proof("mlp", BY_NAME["mlp"].spec, tolerance=0.0).ok


def test_keyword_arguments_reach_the_model():
    class Scaled(nn.Linear):
        def forward(self, x, *, scale):
            return super().forward(x) * scale

    spec = PermutationSpec.parse("weight: 3 2\nbias: 3")
    assert (
        verify(spec, Scaled(2, 3), torch.randn(4, 2), kwargs={"scale": torch.tensor(2.0)}).whole
        == 0
    )


def test_meta_weights_are_refused():
    with torch.device("meta"):
        model = BY_NAME["mlp"].make()
    with pytest.raises(
        SpecError, match=r"0\.weight: is on the meta device; verify needs weights.*materialize=True"
    ):
        verify(BY_NAME["mlp"].spec, model, BY_NAME["mlp"].inputs())


def test_a_specification_of_another_model_is_refused():
    with pytest.raises(
        SpecError, match="the specification and the weights must come from the same architecture"
    ):
        verify(BY_NAME["cnn"].spec, BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())
    with pytest.raises(SpecError, match=r"0\.weight: axis 0 has size 7, but group 'h1' has size 8"):
        verify(changed("mlp", ("h1 = 7", "h1 = 8")), BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())


def test_a_late_mistake_in_a_deep_network_is_not_lost_in_large_activations():
    layers = [
        layer for _ in range(60) for layer in (nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6))
    ]
    model, x = nn.Sequential(*layers, nn.Linear(6, 3)), torch.randn(4, 6)
    fixed = {name: " ".join(map(str, t.shape)) for name, t in model.state_dict().items()}
    right = {
        "118.weight": "h 6",
        "119.weight": "h",
        "119.bias": "h",
        "119.running_var": "h",
        "120.weight": "3 h",
    }
    for mean, ok in (("h", True), ("6", False)):
        axes = fixed | right | {"119.running_mean": mean}
        spec = PermutationSpec.parse(
            "h = 6\n" + "\n".join(f"{name}: {axis}" for name, axis in axes.items())
        )
        result = verify(spec, model, x)
        assert result.ok is ok
        assert (result.whole < 1e-13) if ok else (result.whole > 1e-3)


def test_shared_memory_cannot_move_two_ways():
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 5, bias=False))
    model[2].weight = model[0].weight
    with pytest.raises(SpecError, match=r"weight: shares its memory with another tensor"):
        verify(
            PermutationSpec.parse("h = 5\n0.weight: h 5\n2.weight: 5 h"), model, torch.randn(3, 5)
        )


def test_an_output_that_says_nothing_is_refused():
    class Zero(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0

    with pytest.raises(
        SpecError, match=r"the output has norm 0\.0 for random weights, so nothing can be told"
    ):
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
            h = h + F.layer_norm(
                h.float(), (7,), self.norm.weight.float(), self.norm.bias.float()
            ).type_as(h)
        h = h + F.softmax(h, -1, dtype=torch.float32).to(torch.float16) * torch.tensor(
            [0.1], dtype=torch.float32
        )
        h = (
            h
            + h.to(torch.bfloat16).half().sum(-1, keepdim=True, dtype=torch.float32)
            * torch.full((1,), 0.3).float()
        )
        h = h * self.lost + torch.zeros(h.shape, dtype=torch.float32).copy_(h)
        return self.b((h.to(torch.complex64) * torch.ones(1, dtype=torch.complex64)).real).float()


def test_a_network_that_asks_for_low_precision_is_proved_in_float64():
    model, x = Upcasts(), torch.randn(4, 5)
    spec = PermutationSpec.parse(
        "h = 7\na.weight: h 5\na.bias: h\nnorm.weight: h\nnorm.bias: h\nb.weight: 3 h\nb.bias: 3"
    )
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


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_golden_specifications_hold_for_other_inputs_in_training_and_for_gradients(network):
    others = [(network.inputs(5),), ((network.inputs(2, seed=1),), {})]
    result = verify(
        network.spec, network.make(), network.inputs(), others=others, training=True, gradients=True
    )
    assert result.ok
    assert [name.rpartition(":")[2].split("inputs")[0].strip() for name in result.conditions] == [
        "",
        "",
        "gradients,",
        "training, gradients,",
        "training,",
        "training,",
    ]
    assert max(result.conditions.values()) < 1e-11


def test_a_group_that_fails_only_for_another_shape_is_named_with_that_shape():
    class Wide(nn.Sequential):
        def forward(self, x):
            h = self[0](x).relu()
            return self[1](h * torch.arange(1.0, 8.0) if len(x) > 4 else h)

    model, spec = (
        Wide(nn.Linear(5, 7), nn.Linear(7, 3)),
        PermutationSpec.parse("h = 7\n0.weight: h 5\n0.bias: h\n1.weight: 3 h\n1.bias: 3"),
    )
    assert verify(spec, model, torch.randn(3, 5))
    result = verify(spec, model, torch.randn(3, 5), others=[(torch.randn(6, 5),)], groups=False)
    assert not result
    assert result.whole < 1e-13
    assert result.failed == ("1: inputs (6, 5)",)
    assert result.broken == ("h",)
    assert "1: inputs (6, 5): " in str(result)


class Counting(nn.Sequential):
    """Batch norm whose updated statistics nothing reads: only a look at them tells how they
    move.
    """

    def forward(self, x):
        h = self[0](x)
        self[1](h)
        return self[2](h.relu())


def test_statistics_that_training_updates_must_move_with_the_units():
    model = Counting(nn.Linear(5, 7), nn.BatchNorm1d(7, affine=False), nn.Linear(7, 3))
    text = "h = 7\n0.weight: h 5\n0.bias: h\n1.running_mean: {0}\n1.running_var: {0}\n"
    text += "1.num_batches_tracked:\n2.weight: 3 h\n2.bias: 3"
    right, wrong = (PermutationSpec.parse(text.format(axis)) for axis in ("h", "7"))
    assert verify(right, model, torch.randn(4, 5), training=True)
    assert verify(wrong, model, torch.randn(4, 5))
    result = verify(wrong, model, torch.randn(4, 5), training=True)
    assert result.failed == ("1: training, inputs (4, 5)",)
    assert result.broken == ("h",)


class Straight(torch.autograd.Function):
    """A backward pass that is not the derivative of the forward pass, and tells units apart."""

    @staticmethod
    def forward(_, h):
        return h.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * torch.arange(1.0, gradient.shape[-1] + 1, dtype=gradient.dtype)


def test_gradients_that_do_not_move_with_the_weights_are_found():
    class Estimator(nn.Sequential):
        def forward(self, x):
            return self[1](Straight.apply(self[0](x)))

    model = Estimator(nn.Linear(5, 7), nn.Linear(7, 3))
    spec = PermutationSpec.parse("h = 7\n0.weight: h 5\n0.bias: h\n1.weight: 3 h\n1.bias: 3")
    assert verify(spec, model, torch.randn(4, 5))
    assert verify(spec, model, torch.randn(4, 5), gradients=True).failed == (
        "1: gradients, inputs (4, 5)",
    )


def test_gradients_need_an_output_that_can_be_differentiated():
    class Classes(nn.Linear):
        def forward(self, x):
            return super().forward(x).argmax(-1) + 1

    spec = PermutationSpec.parse("weight: 3 2\nbias: 3")
    assert verify(spec, Classes(2, 3), torch.randn(4, 2))
    with pytest.raises(
        SpecError, match="no output depends on the weights in a way that can be differentiated"
    ):
        verify(spec, Classes(2, 3), torch.randn(4, 2), gradients=True)


def test_dropout_modules_are_off_in_training_and_other_random_numbers_are_refused():
    text = "h = 7\n0.weight: h 5\n0.bias: h\n{0}.weight: 3 h\n{0}.bias: 3"
    quiet = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3))
    assert (
        verify(PermutationSpec.parse(text.format(2)), quiet, torch.randn(4, 5), training=True).whole
        < 1e-13
    )

    class Noisy(nn.Sequential):
        def forward(self, x):
            return self[1](F.dropout(self[0](x), 0.5, self.training))

    model, spec = Noisy(nn.Linear(5, 7), nn.Linear(7, 3)), PermutationSpec.parse(text.format(1))
    assert verify(spec, model, torch.randn(4, 5))
    with pytest.raises(
        SpecError,
        match=r"draws random numbers in training \(aten\.\w+.*set the dropout probabilities",
    ):
        verify(spec, model, torch.randn(4, 5), training=True)


def test_random_numbers_that_move_nothing_are_no_obstacle():
    class NoisyInput(nn.Sequential):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5, self.training))

    spec = PermutationSpec.parse("h = 7\n0.weight: h 5\n0.bias: h\n1.weight: 3 h\n1.bias: 3")
    assert verify(
        spec, NoisyInput(nn.Linear(5, 7), nn.Linear(7, 3)), torch.randn(4, 5), training=True
    )


def test_inputs_that_are_no_tuple_are_refused():
    with pytest.raises(
        SpecError,
        match=r"others\[0\] is a Tensor; write a tuple of inputs, or a pair \(args, kwargs\)",
    ):
        verify(
            BY_NAME["mlp"].spec,
            BY_NAME["mlp"].make(),
            BY_NAME["mlp"].inputs(),
            others=[torch.randn(2, 5)],
        )


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_golden_groups_hang_together_and_their_fixed_axes_have_to_stand_still(network):
    result = verify(network.spec, network.make(), network.inputs(), unions=True, pinned=True)
    assert result.pins > 0
    assert result.strict == ()
    assert dict(result.apart) == {}


def test_two_groups_written_as_one_are_apart_though_each_tie_is_needed():
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    spec = PermutationSpec.parse(
        "h = 6\n0.weight: h 5\n0.bias: h\n2.weight: h h\n2.bias: h\n4.weight: 4 h\n4.bias: 4"
    )
    result = verify(spec, model, torch.randn(3, 5), controls=True, unions=True)
    assert result.ok
    assert result.loose == ()
    assert [sorted((o.tensor, o.axis) for o in part) for part in result.apart["h"]] == [
        [("0.bias", 0), ("0.weight", 0), ("2.weight", 1)],
        [("2.bias", 0), ("2.weight", 0), ("4.weight", 1)],
    ]
    assert "h is one group too few, it falls into 2 that move on their own" in str(result)


def test_families_written_as_one_are_apart():
    text = BY_NAME["attention"].golden.replace(", dv1 = 4 per head1", "").replace("dv1", "dk1")
    result = proof("attention", PermutationSpec.parse(text), unions=True)
    assert result.ok
    assert list(result.apart) == ["dk1"]
    assert {(o.tensor, o.axis, o.segment) for o in result.apart["dk1"][-1]} == {
        ("qkv.weight", 0, 2),
        ("qkv.bias", 0, 2),
        ("out.weight", 1, 0),
    }


def test_a_family_needs_each_of_its_ties():
    result = proof("attention", BY_NAME["attention"].spec, controls=True)
    assert result.controls == 22
    assert {o[:3] for o in result.loose} == {("qkv.bias", 0, 1)}


def test_fixed_axes_that_may_move_are_possibly_too_strict():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.spare = (
                nn.Linear(5, 6),
                nn.Linear(6, 3),
                nn.Parameter(torch.ones(4)),
            )

        def forward(self, x):
            return self.b(self.a(x).relu()) + self.spare.sum()

    text = "spare: 4\na.weight: 6 5\na.bias: 6\nb.weight: 3 6\nb.bias: 3"
    result = verify(PermutationSpec.parse(text), Spare(), torch.randn(4, 5), pinned=True)
    assert result.ok
    assert [(o.tensor, o.axis) for o in result.strict] == [("spare", 0)]
    assert "fixed axes: 6 of 7 have to stand still" in str(result)
    assert "spare axis 0: possibly too strict, its entries may be exchanged" in str(result)


def test_fixed_factors_of_an_axis_are_tried_too():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(10, 3)
    )
    head = "c = 5\n0.weight: c 2 1 1\n0.bias: c\n4.weight: 3 (c 2)\n4.bias: 3"
    result = verify(PermutationSpec.parse(head), model, torch.randn(3, 2, 4, 4), pinned=True)
    assert (result.pins, result.strict) == (4, ())
    blind = nn.Sequential(
        *model[:2], nn.AdaptiveAvgPool2d((1, 1)), nn.Upsample(scale_factor=(1, 2)), *model[3:]
    )
    result = verify(
        PermutationSpec.parse(head.replace("4.", "5.")), blind, torch.randn(3, 2, 4, 4), pinned=True
    )
    assert [tuple(o) for o in result.strict] == [("5.weight", 1, 0, 1)]


def test_rows_that_no_input_reads_are_not_called_free():
    spec = PermutationSpec.parse("h = 7\n0.weight: 11 h\n1.weight: 3 h\n1.bias: 3")
    model = nn.Sequential(nn.Embedding(11, 7), nn.Linear(7, 3))
    result = verify(spec, model, torch.tensor([[2, 5]]), pinned=True)
    assert result.strict == ()
    result = verify(spec, model, torch.tensor([[2, 2]]), pinned=True)
    assert [o.tensor for o in result.unreached] == ["0.weight"]
    assert "fixed axes: 1 more cannot be told by these inputs" in str(result)


def test_long_reports_are_cut():
    text = "\n".join(f"{i}.weight: h{i} h{i}\n{i}.bias: h{i}" for i in range(12))
    sizes = ", ".join(f"h{i} = 5" for i in range(12))
    result = verify(
        PermutationSpec.parse(f"{sizes}\n{text}"),
        nn.Sequential(*[nn.Linear(5, 5) for _ in range(12)]),
        torch.randn(3, 5),
    )
    assert len(result.broken) == 12
    assert len(str(result).splitlines()) == 2 + 8 + 1
    assert list(result.broken) == sorted(result.broken, key=lambda name: -result.groups[name])
    assert "... and 4 more" in str(result)


def test_weights_are_moved_in_place_and_put_back_bit_for_bit():
    network = BY_NAME["attention"]
    f = Function(network.make(), seed=0)
    f.randomize(torch.Generator().manual_seed(0), Example((network.inputs(),), {}))
    theta, places = (
        {n: t.detach().clone() for n, t in f.state.items()},
        {n: t.data_ptr() for n, t in f.state.items()},
    )
    g = Permutation.random(network.spec, torch.Generator().manual_seed(1))
    with f.moved(moves_of(g)):
        assert all(torch.equal(t, g(theta)[n]) for n, t in f.state.items())
        assert {n: t.data_ptr() for n, t in f.state.items()} == places
    assert all(torch.equal(t, theta[n]) for n, t in f.state.items())


def test_a_network_without_weights_gets_random_ones_on_request():
    for network in NETWORKS:
        with torch.device("meta"):
            model = network.make()
        result = verify(network.spec, model, network.inputs(), materialize=True, training=True)
        assert result.ok
        assert result.whole < 1e-13
        assert next(model.parameters()).is_meta


def test_tied_weights_stay_tied_when_they_are_materialized():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 5, bias=False))
    model[2].weight = model[0].weight
    with pytest.raises(SpecError, match=r"weight: shares its memory with another tensor"):
        verify(
            PermutationSpec.parse("h = 5\n0.weight: h 5\n2.weight: 5 h"),
            model,
            torch.randn(3, 5),
            materialize=True,
        )


@pytest.mark.parametrize(
    ("content", "persistent", "message"),
    [
        (
            torch.ones(5),
            False,
            r"0\.table: is on the meta device and outside the state dict, so its values cannot be "
            r"known",
        ),
        (
            torch.arange(5),
            True,
            r"0\.table: holds torch\.int64 on the meta device, which cannot be drawn at random",
        ),
    ],
)
def test_buffers_whose_values_cannot_be_known_are_refused(content, persistent, message):
    model = nn.Sequential(nn.Linear(5, 5))
    model[0].register_buffer("table", content.to("meta"), persistent=persistent)
    spec = PermutationSpec.parse("0.weight: 5 5\n0.bias: 5" + "\n0.table: 5" * persistent)
    with pytest.raises(SpecError, match=message):
        verify(spec, model, torch.randn(3, 5), materialize=True)


def test_inputs_without_values_are_refused():
    with pytest.raises(
        SpecError, match="an input is on the meta device; give inputs that have values"
    ):
        verify(BY_NAME["mlp"].spec, BY_NAME["mlp"].make(), torch.randn(3, 5, device="meta"))
