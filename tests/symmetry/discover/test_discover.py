"""Discovery reads the golden specifications off the graph, pins what it does not know and says why;
size ties nothing.
"""

import itertools
import math
import textwrap

import pytest
import torch
from networks import NETWORKS, Residual
from torch import nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import permutation_spec, verify


class Net(nn.Module):
    """Named submodules and a function of them: a network in one line."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            if isinstance(module, nn.Parameter):
                self.register_parameter(name, module)
            elif isinstance(module, torch.Tensor):
                self.register_buffer(name, module)
            else:
                self.add_module(name, module)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


def weight(*shape):
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))))


def found(model, *inputs, loose=()):
    """The specification of a network, proved before it is looked at: every group preserves the
    function, and needs each tie.
    """
    spec = permutation_spec(model, *inputs)
    proof = verify(spec, model, *inputs, controls=True)
    assert proof.ok, f"{spec}\n{proof}"
    assert {occurrence.tensor for occurrence in proof.loose} == set(loose), f"{spec}\n{proof}"
    return spec


def lines(spec):
    return str(spec).splitlines()


def text(string):
    return textwrap.dedent(string).strip()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_discovery_gives_the_golden_text(network):
    # Softmax does not see a bias of the keys, so that nothing can depend on how it moves.
    spec = found(
        network.make(), network.inputs(), loose={"qkv.bias"} if network.name == "attention" else ()
    )
    assert str(spec) == network.golden
    assert spec == network.spec


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_every_fixed_axis_has_a_reason(network):
    spec = permutation_spec(network.make(), network.inputs())
    fixed = {
        f"{name} axis {i}"
        for name, axes in spec.axes.items()
        for i, axis in enumerate(axes)
        if axis != ((1,),)
        and not any(isinstance(atom, str) for segment in axis for atom in segment)
    }
    assert set(spec.pinned) == fixed
    assert all(spec.pinned.values())


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_meta_weights_give_the_same_specification(network):
    with torch.device("meta"):
        model = network.make()
    assert str(permutation_spec(model, network.inputs())) == str(
        permutation_spec(network.make(), network.inputs())
    )


def test_reasons_name_input_output_and_kernel():
    spec = permutation_spec(Residual(), torch.randn(3, 2, 6, 6))
    assert spec.pinned["stem.weight axis 1"] == "input"
    assert spec.pinned["inner.weight axis 3"] == "kernel of aten.conv2d"
    assert spec.pinned["head.bias axis 0"] == "output"
    assert "outer.weight axis 2" not in spec.pinned


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(), nn.Linear(7, 4))
    model[2].eval()
    before, held = params.from_module(model), dict(model.named_parameters())
    permutation_spec(model, torch.randn(3, 5))
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(held[name] is parameter for name, parameter in model.named_parameters())


def test_a_recurrent_model_is_left_as_it_was():
    model = nn.GRU(5, 7)
    held = list(model._flat_weights)
    permutation_spec(model, torch.randn(4, 3, 5))
    assert all(
        a is b is c for a, b, c in zip(held, model._flat_weights, model.parameters(), strict=True)
    )


def test_equal_sizes_do_not_unite():
    model = nn.Sequential(nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7))
    assert lines(found(model, torch.randn(7, 7))) == [
        "h1 = 7, h2 = 7",
        "0.weight: h1 7",
        "0.bias: h1",
        "2.weight: h2 h1",
        "2.bias: h2",
        "4.weight: 7 h2",
        "4.bias: 7",
    ]


class Block(nn.Module):
    """The basic block of a residual network, overwriting its activations as torchvision's does."""

    def __init__(self, inside, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


def resnet(blocks=(2, 2, 2, 2), widths=(5, 7, 11, 13)):
    stages, inside = [], widths[0]
    for i, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        for j in range(count):
            stages.append(Block(inside, width, 2 if i and not j else 1))
            inside = width
    stem = [
        nn.Conv2d(3, widths[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]
    return nn.Sequential(
        *stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 4)
    )


def test_residual_network_has_one_group_per_stream_and_one_per_block():
    spec = permutation_spec(resnet(), torch.randn(2, 3, 16, 16))
    assert verify(spec, resnet(), torch.randn(2, 3, 16, 16)).ok
    assert len(spec.groups) == 4 + 8
    streams = [
        name
        for name in spec.groups
        if len({o.tensor.split(".")[0] for o in spec.occurrences(name)}) > 2
    ]
    assert sorted(spec.groups[name] for name in streams) == [5, 7, 11, 13]
    assert str(spec).splitlines()[0].startswith("c1 = 5, c2 = 5, c3 = 5, c4 = 7, c5 = 7, c6 = 7")


def vgg16():
    layers, inside = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += (
            [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(True)] if width else [nn.MaxPool2d(2)]
        )
        inside = width or inside
    head = [
        nn.Linear(512 * 49, 4096),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(True),
        nn.Linear(4096, 1000),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head)


def encoder():
    layer = nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True)
    return nn.Sequential(
        nn.Linear(64, 768),
        nn.TransformerEncoder(layer, 12, enable_nested_tensor=False),
        nn.Linear(768, 10),
    )


@pytest.mark.parametrize(
    ("make", "shape", "groups", "log10_order"),
    [
        (lambda: resnet(widths=(64, 128, 256, 512)), (3, 32, 32), 4 + 8, 5934.5),
        (vgg16, (3, 224, 224), 15, 35168.5),
        (encoder, (5, 64), 1 + 12 + 12 + 12 + 12, 140226.4),
    ],
    ids=["resnet18", "vgg16", "transformer"],
)
def test_known_architectures_have_the_order_that_theory_gives(make, shape, groups, log10_order):
    with torch.device("meta"):
        model = make()
    spec = permutation_spec(model, torch.randn(2, *shape))
    assert len(spec.groups) == groups
    assert spec.log10_order == pytest.approx(log10_order, abs=0.06)


def test_flatten_after_convolution_blocks_the_axis():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 6, 7), nn.Tanh(), nn.Linear(7, 3)
    )
    assert lines(found(model, torch.randn(2, 2, 4, 5)))[3] == "3.weight: h1 (c1 6)"


def test_flatten_of_a_concatenation_blocks_each_segment():
    model = Net(
        lambda m, x: m.fc(torch.cat([m.a(x), m.b(x)], 1).relu().flatten(1)),
        a=nn.Conv2d(2, 5, 1),
        b=nn.Conv2d(2, 3, 1),
        fc=nn.Linear(8 * 4, 3),
    )
    assert lines(found(model, torch.randn(5, 2, 2, 2)))[-2] == "fc.weight: 3 (c1 4)+(c2 4)"


def test_channels_last_flatten_repeats_the_group():
    model = Net(
        lambda m, x: m.fc(m.a(x).relu().permute(0, 2, 3, 1).flatten(1)),
        a=nn.Conv2d(2, 5, 1),
        fc=nn.Linear(5 * 4, 3),
    )
    assert lines(found(model, torch.randn(3, 2, 2, 2)))[-2] == "fc.weight: 3 (4 c1)"


def test_functional_networks_are_read_like_modules():
    def forward(m, x):
        return torch.addmm(m.d, torch.sin(m.omega * (x @ m.w + m.b)), m.v)

    model = Net(forward, w=weight(5, 7), b=weight(7), v=weight(7, 3), d=weight(3), omega=weight(1))
    assert str(found(model, torch.randn(2, 5))) == text("""
        h1 = 7
        w: 5 h1
        b: h1
        v: h1 3
        d: 3
        omega: 1""")


def test_batched_matrix_products_contract_their_last_axes():
    model = Net(
        lambda m, x: torch.bmm(torch.bmm(x, m.w).relu(), m.v), w=weight(3, 5, 7), v=weight(3, 7, 2)
    )
    assert str(found(model, torch.randn(3, 4, 5))) == "c1 = 7\nw: 3 5 c1\nv: 3 c1 2"


@pytest.mark.parametrize(
    ("op", "name"),
    [
        (lambda h: h.diff(), "aten.diff.default"),
        (lambda h: torch.special.i0(h), "aten.special_i0.default"),
        (lambda h: torch.renorm(h, 2, 0, 1), "aten.renorm.default"),
    ],
)
def test_an_operation_without_rule_pins_its_operands_and_is_named(op, name):
    last = nn.Linear(op(torch.zeros(2, 7)).shape[1], 3)
    model = Net(
        lambda m, x: m.c(op(m.b(m.a(x).relu()))), a=nn.Linear(5, 11), b=nn.Linear(11, 7), c=last
    )
    spec = found(model, torch.randn(2, 5))
    assert spec.pinned["b.weight axis 0"] == spec.pinned["c.weight axis 1"] == f"{name} has no rule"
    assert spec.groups == {"h1": 11}


def test_a_channel_slice_splits_the_group_at_its_offset():
    model = Net(
        lambda m, x: m.c(m.a(x).relu()[:, :3]) + m.b(m.a(x).relu()),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 2),
        c=nn.Linear(3, 2),
    )
    assert lines(found(model, torch.randn(3, 5))) == [
        "h1 = 3, h2 = 4",
        "a.weight: h1+h2 5",
        "a.bias: h1+h2",
        "b.weight: 2 h1+h2",
        "b.bias: 2",
        "c.weight: 2 h1",
        "c.bias: 2",
    ]


def test_a_gated_half_moves_with_the_other():
    model = Net(lambda m, x: m.b(F.glu(m.a(x), -1)), a=nn.Linear(5, 14), b=nn.Linear(7, 2))
    chunked = Net(
        lambda m, x: m.b(torch.mul(*m.a(x).chunk(2, -1))), a=nn.Linear(5, 14), b=nn.Linear(7, 2)
    )
    assert lines(found(model, torch.randn(3, 5)))[1] == "a.weight: h1+h1 5"
    assert found(chunked, torch.randn(3, 5)) == found(model, torch.randn(3, 5))


def test_a_selected_unit_stands_still_and_the_others_move():
    model = Net(
        lambda m, x: m.a(x).relu()[:, 2:3] + m.b(m.a(x).relu()),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 2),
    )
    assert lines(found(model, torch.randn(3, 5)))[:2] == ["h1 = 2, h2 = 4", "a.weight: h1+1+h2 5"]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.a(x).relu()[:, [2, 0, 1, 3, 6, 5, 4]]),
        lambda m, x: m.b(m.a(x).relu() * torch.linspace(1, 2, 7)),
        lambda m, x: m.b(m.a(x).relu() * m.scale),
        lambda m, x: m.b(m.a(x).relu() + torch.tensor([0, 0, 0, 1.0, 0, 0, 0])),
    ],
)
def test_a_constant_that_tells_units_apart_pins_them(forward):
    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2))
    model.register_buffer("scale", torch.arange(7.0), persistent=False)
    assert not found(model, torch.randn(3, 5)).groups


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.a(x).relu() * 3 + 1),
        lambda m, x: m.b(m.a(x).relu() * torch.full((7,), 2.0)),
        lambda m, x: m.b(m.a(x).relu() * m.scale),
        lambda m, x: m.b(m.a(x).relu() + torch.tensor([2.0] * 7)),
        lambda m, x: m.b(torch.zeros(len(x), 7) + m.a(x).relu()),
    ],
)
def test_a_uniform_constant_does_not_pin(forward):
    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2))
    model.register_buffer("scale", torch.full((7,), 1.5), persistent=False)
    assert found(model, torch.randn(3, 5)).groups == {"h1": 7}


@pytest.mark.parametrize(
    ("forward", "groups"),
    [
        (lambda m, x: F.group_norm(x[:, 0, :3].repeat_interleave(2, 1), 2, m.s), []),
        (
            lambda m, x: (
                torch.stack([torch.cat([x.new_zeros(4, 2), x.new_ones(4, 1)], 1)] * 2, 1).flatten(1)
                * m.s
            ),
            [],
        ),
        (
            lambda m, x: (
                F.scaled_dot_product_attention(torch.ones(1, 6, 5), x, x, is_causal=True)[..., 0]
                * m.s
            ),
            [],
        ),
        (
            lambda m, x: (
                F.scaled_dot_product_attention(torch.ones(1, 6, 5), x, x, m.mask)[..., 0] * m.s
            ),
            [6],
        ),
        (
            lambda m, x: (
                torch.rnn_tanh(
                    x.new_ones(4, 6, 5),
                    x.new_zeros(1, 4, 1),
                    [m.w, m.w[:, :1]],
                    False,
                    1,
                    0.0,
                    False,
                    False,
                    True,
                )[0][..., 0]
                * m.s
            ),
            [4],
        ),
    ],
    ids=["group norm", "concatenation", "causal mask", "mask", "recurrence"],
)
def test_a_constant_is_one_no_more_after_an_operation_that_tells_places_apart(forward, groups):
    model = Net(
        lambda m, x: m.b(forward(m, x)),
        b=nn.Linear(6, 2),
        s=weight(6),
        w=weight(1, 5),
        mask=weight(6, 6),
    )
    spec = permutation_spec(model, torch.randn(4, 6, 5))
    assert verify(spec, model, torch.randn(4, 6, 5)).ok
    assert list(spec.groups.values()) == groups


def test_one_constant_ties_nothing_that_it_meets():
    def forward(m, x):
        zero = torch.zeros(7)
        return m.c((m.b((m.a(x) + zero).relu()) + zero).relu())

    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 7), c=nn.Linear(7, 2))
    assert found(model, torch.randn(3, 5)).groups == {"h1": 7, "h2": 7}


def test_a_constant_that_is_overwritten_moves_as_what_was_written():
    def forward(m, x):
        buffer = torch.zeros(len(x), 7)
        buffer[:, 2:] += m.a(x)
        buffer[:, :2] = x[:, :2]
        return m.b(buffer)

    spec = found(Net(forward, a=nn.Linear(5, 5), b=nn.Linear(7, 2)), torch.randn(3, 5))
    assert lines(spec) == [
        "h1 = 5",
        "a.weight: h1 5",
        "a.bias: h1",
        "b.weight: 2 2+h1",
        "b.bias: 2",
    ]


def test_a_buffer_that_is_saved_moves_with_the_units():
    spec = found(
        Net(lambda m, x: m.b(m.a(x) * m.s), a=nn.Linear(5, 7), b=nn.Linear(7, 2), s=torch.rand(7)),
        torch.randn(3, 5),
    )
    assert spec.axes["s"] == ((("h1",),),)


def test_zero_padded_channels_join_the_stream():
    model = Net(
        lambda m, x: m.c(F.pad(m.a(x), (0, 0, 0, 0, 2, 3)) + m.b(x)),
        a=nn.Conv2d(2, 4, 1),
        b=nn.Conv2d(2, 9, 1),
        c=nn.Conv2d(9, 3, 1),
    )
    assert lines(found(model, torch.randn(2, 2, 3, 3)))[:4] == [
        "c1 = 4, c2 = 2, c3 = 3",
        "a.weight: c1 2 1 1",
        "a.bias: c1",
        "b.weight: c2+c1+c3 2 1 1",
    ]


def test_transposed_convolution_reads_its_weight_the_other_way():
    model = nn.Sequential(
        nn.ConvTranspose2d(2, 5, 3), nn.ReLU(), nn.ConvTranspose2d(5, 3, 2, stride=2)
    )
    assert str(found(model, torch.randn(2, 2, 3, 3))) == text("""
        c1 = 5
        0.weight: 2 c1 3 3
        0.bias: c1
        2.weight: c1 3 2 2
        2.bias: 3""")


@pytest.mark.parametrize("conv", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_convolution_moves_groups_and_their_inside(conv):
    model = nn.Sequential(
        nn.Conv2d(2, 6, 1), nn.ReLU(), conv(6, 15, 1, groups=3), nn.ReLU(), nn.Conv2d(15, 4, 1)
    )
    spec = found(model, torch.randn(2, 2, 3, 3))
    assert lines(spec)[1] == "0.weight: (c1 c2) 2 1 1"
    assert (
        lines(spec)[3]
        == {nn.Conv2d: "2.weight: (c1 c3) c2 1 1", nn.ConvTranspose2d: "2.weight: (c1 c2) c3 1 1"}[
            conv
        ]
    )


def test_depthwise_with_a_multiplier_keeps_channels_as_blocks():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 1), nn.ReLU(), nn.Conv2d(5, 15, 3, groups=5), nn.ReLU(), nn.Conv2d(15, 4, 1)
    )
    spec = found(model, torch.randn(2, 2, 4, 4))
    assert lines(spec)[0] == "c1 = 5, c2 = 3 per c1"
    assert lines(spec)[3:] == [
        "2.weight: (c1 c2) 1 3 3",
        "2.bias: (c1 c2)",
        "4.weight: 4 (c1 c2) 1 1",
        "4.bias: 4",
    ]


def test_group_norm_moves_groups_and_the_inside_of_each():
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    spec = found(model, torch.randn(2, 2, 4, 4))
    assert lines(spec)[:2] == ["c1 = 2, c2 = 3 per c1", "0.weight: (c1 c2) 2 1 1"]


def test_a_parameter_along_the_inside_of_blocks_forbids_a_family():
    model = Net(
        lambda m, x: m.b((m.a(x).unflatten(-1, (2, 3)) * m.s).relu().flatten(1)),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 2),
        s=weight(3),
    )
    assert lines(found(model, torch.randn(4, 5)))[:2] == ["h1 = 3, h2 = 2", "s: h1"]


def test_a_sum_over_blocks_forbids_a_family():
    model = Net(
        lambda m, x: m.b(m.a(x).unflatten(-1, (2, 3)).relu().sum(1)),
        a=nn.Linear(5, 6),
        b=nn.Linear(3, 2),
    )
    assert lines(found(model, torch.randn(4, 5)))[0] == "h1 = 2, h2 = 3"


def test_a_product_of_all_pairs_of_blocks_forbids_a_family():
    def forward(m, x):
        h = m.a(x).unflatten(-1, (2, 3)).tanh()
        return (h @ h.mT).exp().sum((1, 2))

    spec = found(Net(forward, a=nn.Linear(5, 6)), torch.randn(4, 5))
    assert lines(spec)[0] == "h1 = 2, h2 = 3"


def test_tied_weights_move_alike_under_every_name():
    model = Net(
        lambda m, x: m.b(m.a(m.e(x)).relu()),
        e=nn.Linear(5, 7),
        a=nn.Linear(7, 7),
        b=nn.Linear(7, 7),
    )
    model.b.weight = model.a.weight
    spec = permutation_spec(model, torch.randn(3, 5))
    assert not spec.groups
    tied = nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(), *[nn.Linear(7, 7), nn.ReLU()] * 2, nn.Linear(7, 3)
    )
    assert lines(found(tied, torch.randn(3, 5)))[3:7:2] == ["2.weight: h1 h1", "4.weight: h1 h1"]


def test_one_memory_in_two_layouts_stands_still():
    model = Net(
        lambda m, x: m.b(m.a(x).relu()),
        a=nn.Linear(7, 7, bias=False),
        b=nn.Linear(7, 7, bias=False),
    )
    model.b.weight = nn.Parameter(model.a.weight.data.T)
    spec = permutation_spec(model, torch.randn(3, 7))
    assert not spec.groups
    assert (
        spec.pinned["a.weight axis 0"] == "a.weight and b.weight share memory in different layouts"
    )


def test_a_normalization_across_blocks_forbids_a_family():
    model = Net(
        lambda m, x: m.b(m.a(x).unflatten(-1, (2, 3)).softmax(1).flatten(1)),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 2),
    )
    assert lines(found(model, torch.randn(4, 5)))[0] == "h1 = 2, h2 = 3"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_loops_without_rule_pin_what_they_read():
    def forward(m, x):
        start = (torch.zeros((), dtype=torch.int64), m.a(x))
        return m.b(while_loop(lambda i, _: i < 2, lambda i, h: (i + 1, h.tanh()), start)[1])

    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2))
    spec = permutation_spec(model, torch.randn(4, 5))
    assert not spec.groups
    assert spec.pinned["a.weight axis 0"] == "while_loop has no rule"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_branches_move_alike():
    def forward(m, x):
        return m.b(torch.cond(x.sum() > 0, lambda h: h.relu(), lambda h: h.flip(-1), (m.a(x),)))

    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2))
    spec = permutation_spec(model, torch.randn(4, 5))
    assert not spec.groups
    assert spec.pinned["a.weight axis 0"] == "order of aten.flip"
    assert spec.pinned["b.weight axis 1"] == "order of aten.flip"


def test_unused_weights_are_fixed_and_say_so():
    model = Net(
        lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(5, 7), b=nn.Linear(7, 2), spare=weight(7, 3)
    )
    spec = found(model, torch.randn(3, 5))
    assert spec.pinned["spare axis 0"] == "unused"
    assert spec.groups == {"h1": 7}


def test_an_embedding_moves_its_features_and_not_its_vocabulary():
    model = nn.Sequential(nn.Embedding(11, 7), nn.Tanh(), nn.Linear(7, 3))
    spec = found(model, torch.arange(6).reshape(2, 3))
    assert lines(spec)[1] == "0.weight: 11 h1"
    assert spec.pinned["0.weight axis 0"] == "index of aten.embedding"


class Heads(nn.Module):
    """Attention written out, with separate projections and fewer heads for keys and values."""

    def __init__(self, heads, kv_heads, fused):
        super().__init__()
        self.embed, self.head, self.fused = nn.Linear(5, 7), nn.Linear(7, 2), fused
        self.q, self.k = nn.Linear(7, heads * 4, bias=False), nn.Linear(7, kv_heads * 4, bias=False)
        self.v, self.out = nn.Linear(7, kv_heads * 3, bias=False), nn.Linear(heads * 3, 7)
        self.heads, self.kv_heads = heads, kv_heads

    def forward(self, x):
        x = self.embed(x)
        q = self.q(x).unflatten(-1, (self.heads, 4)).transpose(1, 2)
        k = self.k(x).unflatten(-1, (self.kv_heads, 4)).transpose(1, 2)
        v = self.v(x).unflatten(-1, (self.kv_heads, 3)).transpose(1, 2)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            k, v = (torch.repeat_interleave(t, self.heads // self.kv_heads, 1) for t in (k, v))
            y = torch.softmax(q @ k.mT / 2, -1) @ v
        return self.head(x + self.out(y.transpose(1, 2).flatten(2)))


def test_heads_are_blocks_whose_inside_moves_on_its_own():
    spec = found(Heads(3, 3, True), torch.randn(2, 6, 5))
    assert lines(spec)[0] == "h1 = 7, head1 = 3, dk1 = 4 per head1, dv1 = 3 per head1"
    assert "q.weight: (head1 dk1) h1" in lines(spec)
    assert "out.weight: h1 (head1 dv1)" in lines(spec)
    assert found(Heads(3, 3, False), torch.randn(2, 6, 5)) == spec


@pytest.mark.parametrize("fused", [True, False])
def test_shared_key_heads_carry_a_block_of_query_heads(fused):
    spec = found(Heads(6, 3, fused), torch.randn(2, 6, 5))
    assert (
        lines(spec)[0]
        == "h1 = 7, head1 = 3, head2 = 2 per head1, dk1 = 4 per head1, dv1 = 3 per head1"
    )
    assert spec.log10_order == pytest.approx(math.log10(5040 * 6 * 2**3 * 24**3 * 6**3))


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_of_torch(batch_first):
    def forward(m, x):
        x = m.embed(x)
        return m.head(m.attention(x, x, x, need_weights=False)[0])

    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    model = Net(forward, embed=nn.Linear(5, 8), attention=attention, head=nn.Linear(8, 3))
    spec = found(model, torch.randn(3, 6, 5), loose={"attention.in_proj_bias"})
    assert "attention.in_proj_weight: (head1 dk1)+(head1 dk1)+(head1 dv1) h1" in lines(spec)


def test_transformer_layer_of_torch():
    layer = nn.TransformerEncoderLayer(8, 2, 11, batch_first=True, dropout=0.1)
    model = nn.Sequential(nn.Linear(5, 8), layer, nn.Linear(8, 3))
    spec = found(model, torch.randn(3, 6, 5), loose={"1.self_attn.in_proj_bias"})
    assert lines(spec)[0] == "h1 = 8, head1 = 2, dk1 = 4 per head1, dv1 = 4 per head1, h2 = 11"


def test_rotated_queries_and_keys_stand_still_and_values_move():
    def forward(m, x):
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
        angle = torch.arange(6.0)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        turn = lambda t: t * angle.cos() + torch.cat([-t[..., 2:], t[..., :2]], -1) * angle.sin()  # noqa: E731
        y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
        return m.out(y.transpose(1, 2).flatten(2))

    spec = found(
        Net(forward, qkv=nn.Linear(5, 24, bias=False), out=nn.Linear(8, 3)), torch.randn(3, 6, 5)
    )
    assert lines(spec)[:2] == [
        "head1 = 2, dv1 = 4 per head1",
        "qkv.weight: (head1 4)+(head1 4)+(head1 dv1) 5",
    ]


def recurrent(kind, **options):
    return Net(
        lambda m, x: m.head(m.rnn(x)[0].amax(1)),
        rnn=kind(5, 7, batch_first=True, **options),
        head=nn.Linear(
            (options.get("proj_size") or 7) * (1 + options.get("bidirectional", False)), 3
        ),
    )


def test_lstm_gates_stand_still_and_units_move_in_all_of_them():
    spec = found(recurrent(nn.LSTM), torch.randn(2, 4, 5))
    assert lines(spec)[1:3] == ["rnn.weight_ih_l0: (4 h1) 5", "rnn.weight_hh_l0: (4 h1) h1"]
    assert "rnn.weight_hr_l0: h2 h1" in lines(
        found(recurrent(nn.LSTM, proj_size=3), torch.randn(2, 4, 5))
    )


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_every_layer_and_direction_of_a_recurrent_network_has_its_own_group(kind):
    spec = found(recurrent(kind, num_layers=2, bidirectional=True), torch.randn(2, 4, 5))
    assert list(spec.groups.values()) == [7, 7, 7, 7]
    assert lines(spec)[-2] == "head.weight: 3 h3+h4"


def test_last_states_of_all_layers_stay_apart_when_one_is_taken():
    model = Net(
        lambda m, x: m.head(m.rnn(x)[1][-1]),
        rnn=nn.GRU(5, 7, 2, batch_first=True),
        head=nn.Linear(7, 3),
    )
    assert found(model, torch.randn(2, 4, 5)).groups == {"h1": 7, "h2": 7}
    summed = Net(
        lambda m, x: m.head(m.rnn(x)[1].sum(0)),
        rnn=nn.GRU(5, 7, 2, batch_first=True),
        head=nn.Linear(7, 3),
    )
    assert found(summed, torch.randn(2, 4, 5)).groups == {"h1": 7}


def test_einsum_is_read_by_its_letters():
    model = Net(
        lambda m, x: torch.einsum(
            "...h,ho->...o", torch.einsum("b t i, i h -> b t h", x, m.w).relu(), m.v
        ),
        w=weight(5, 7),
        v=weight(7, 3),
    )
    assert str(found(model, torch.randn(2, 4, 5))) == "h1 = 7\nw: 5 h1\nv: h1 3"


class Listed(nn.Module):
    """Weights that are read from a list, as pykan has them, or through a view."""

    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(5, 7), nn.Linear(7, 3), how
        self.scale = nn.Parameter(torch.ones(7))
        self.longer = nn.Parameter(torch.ones(9))
        self.kept, self.part = [self.scale], self.longer.data[:7]

    def forward(self, x):
        return self.b((self.a(x) * (self.kept[0] if self.how == "list" else self.part)).relu())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_weight_that_is_read_from_a_list_is_a_weight(device):
    with torch.device(device):
        model = Listed("list")
    spec = permutation_spec(model, torch.randn(2, 5))
    assert lines(spec)[:2] == ["h1 = 7", "scale: h1"]
    if device == "cpu":
        assert verify(spec, model, torch.randn(2, 5)).ok


def test_a_view_of_a_weight_is_no_constant_although_all_its_entries_are_alike():
    spec = permutation_spec(Listed("view"), torch.randn(2, 5))
    assert not spec.groups
    assert spec.pinned["a.weight axis 0"] == "part is part of a weight"


def test_a_letter_of_length_one_may_be_summed_alone():
    """As tensor trains have them at their ends."""
    model = Net(
        lambda m, x: torch.einsum("eho,bhf->bo", m.v, torch.einsum("bi,fih->bhf", x, m.w).relu()),
        w=weight(1, 5, 7),
        v=weight(1, 7, 3),
    )
    assert str(found(model, torch.randn(2, 5))) == "h1 = 7\nw: 1 5 h1\nv: 1 h1 3".replace(
        "h1", "c1"
    )


def test_a_mask_of_true_and_false_is_the_architecture_and_named():
    model = Net(lambda m, x: m.b((m.a(x) * m.mask).relu()), a=nn.Linear(5, 7), b=nn.Linear(7, 3))
    model.register_buffer("mask", torch.arange(7) % 2 > 0)
    spec = found(model, torch.randn(2, 5))
    assert not spec.groups
    assert spec.pinned["a.weight axis 0"] == "a mask of True and False"


@pytest.mark.parametrize(
    ("stacked", "axis"),
    [
        (lambda h: h, "h1+h2"),
        (lambda h: h.relu(), "h1+h2"),
        (lambda h: h.transpose(1, 2).mT, "h1+h2"),
        (lambda h: h.softmax(1), "h1+h1"),
        (lambda h: h + h.mean(1, keepdim=True), "h1+h1"),
    ],
    ids=["cut", "activated", "transposed", "normalized", "mixed"],
)
def test_stacked_parts_that_are_cut_open_move_on_their_own(stacked, axis):
    def forward(m, x):
        left, right = stacked(m.a(x).unflatten(-1, (2, 7))).unbind(1)
        return m.b(left) + m.c(right.relu())

    model = Net(forward, a=nn.Linear(5, 14), b=nn.Linear(7, 2), c=nn.Linear(7, 2))
    assert lines(found(model, torch.randn(3, 5)))[1] == f"a.weight: {axis} 5"


def test_an_axis_that_becomes_batch_is_reshaped_back():
    model = Net(
        lambda m, x: m.b(m.a(x).relu().reshape(-1, 7)).reshape(3, 4, 2),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 2),
    )
    assert found(model, torch.randn(3, 4, 5)).groups == {"h1": 7}


def test_a_reshape_that_does_not_respect_blocks_pins():
    model = Net(
        lambda m, x: m.b(m.a(x).relu().reshape(-1, 4)), a=nn.Linear(5, 6), b=nn.Linear(4, 2)
    )
    spec = found(model, torch.randn(4, 5))
    assert not spec.groups
    assert "does not respect its blocks" in spec.pinned["a.weight axis 0"]


def test_keyword_and_nested_arguments_are_inputs():
    model = Net(
        lambda m, x: m.b(m.a(x["left"]).relu() + m.a(x["right"])),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 2),
    )
    assert permutation_spec(
        model, {"left": torch.randn(3, 5), "right": torch.randn(3, 5)}
    ).groups == {"h1": 7}


def test_code_under_no_grad_is_read_through():
    def forward(m, x):
        with torch.no_grad():
            h = m.a(x).relu()
        return m.b(h)

    assert found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(3, 5)).groups == {
        "h1": 7
    }


def stabiliser(model, x):
    """The order of the group of axis permutations of all parameters that keep f, counted one by
    one.
    """
    theta = {name: torch.randn_like(t) for name, t in params.from_module(model.double()).items()}
    axes = [(name, i, n) for name, t in theta.items() for i, n in enumerate(t.shape)]
    reference = params.call(model, theta, x)
    order = 0
    for choice in itertools.product(*(itertools.permutations(range(n)) for _, _, n in axes)):
        moved = dict(theta)
        for (name, i, _), index in zip(axes, choice, strict=True):
            moved[name] = moved[name].index_select(i, torch.tensor(index))
        order += bool(torch.allclose(params.call(model, moved, x), reference, rtol=1e-9, atol=1e-9))
    return order


@pytest.mark.parametrize(
    ("model", "order"),
    [
        (nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 2)), 6),
        (
            nn.Sequential(
                nn.Linear(1, 2),
                nn.Tanh(),
                nn.Linear(2, 3, bias=False),
                nn.Tanh(),
                nn.Linear(3, 1, bias=False),
            ),
            12,
        ),
        (
            Net(
                lambda m, x: m.c(m.a(x) + m.b(m.a(x)).tanh()),
                a=nn.Linear(1, 3, bias=False),
                b=nn.Linear(3, 3, bias=False),
                c=nn.Linear(3, 1, bias=False),
            ),
            6,
        ),
        (
            Net(
                lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1).tanh()),
                a=nn.Linear(1, 2),
                b=nn.Linear(1, 2),
                c=nn.Linear(4, 1, bias=False),
            ),
            4,
        ),
    ],
    ids=["mlp", "deep", "residual", "concatenation"],
)
def test_the_group_is_the_whole_stabiliser(model, order):
    torch.manual_seed(0)
    x = torch.randn(4, next(model.parameters()).shape[1], dtype=torch.float64)
    spec = permutation_spec(model.double(), x)
    assert round(10**spec.log10_order) == order == stabiliser(model, x)
