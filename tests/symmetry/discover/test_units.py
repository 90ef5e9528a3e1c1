"""Beyond permutations: scales, signs, phases and linear maps of units are found, printed, proved,
and form a group.
"""

import itertools
import json

import pytest
import torch
from networks import BY_NAME, NETWORKS
from test_discover_random import network
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    Place,
    Rescaling,
    SpecError,
    SymmetryElement,
    UnitSymmetry,
    permutation_spec,
    symmetry_spec,
    verify_units,
)
from wsl.symmetry.elements.action import along

GOLDEN = {
    "mlp": """
        scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]
        scale h2: 2.weight[0] 2.bias[0] / 4.weight[1]""",
    "mlp_without_bias": "sign h1: 0.weight[0] 2.weight[1]",
    "cnn": """
        scale c1: conv1.weight[0] conv1.bias[0] / conv2.weight[1]
        scale c2: conv2.weight[0] conv2.bias[0] / fc1.weight[1]
        scale h1: fc1.weight[0] fc1.bias[0] / fc2.weight[1]""",
    "residual": """
        scale c1: stem.weight[0] stem.bias[0] bn2.weight[0] bn2.bias[0] / inner.weight[1] head.weight[1]
        scale c1: outer.weight[0] outer.bias[0] bn2.running_mean[0] bn2.running_var[0]^2+1e-05
        scale c1: bn2.weight[0] bn2.running_var[0]^2+1e-05
        sign c1: outer.weight[0] outer.bias[0] bn2.weight[0] bn2.running_mean[0]
        scale c2: inner.weight[0] inner.bias[0] bn1.running_mean[0] bn1.running_var[0]^2+1e-05
        scale c2: bn1.weight[0] bn1.running_var[0]^2+1e-05
        scale c2: bn1.weight[0] bn1.bias[0] / outer.weight[1]
        sign c2: inner.weight[0] inner.bias[0] bn1.weight[0] bn1.running_mean[0]""",
    "layer_norm": """
        scale h1: norm.weight[0] norm.bias[0] / up.weight[1]
        sign h1: norm.weight[0] norm.bias[0] up.weight[1]""",
    "siren": """
        sign h1: layers.0.weight[0] layers.0.bias[0] layers.1.weight[1]
        phase h1 omega 30: layers.0.bias[0] / layers.1.weight[1]
        sign h2: layers.1.weight[0] layers.1.bias[0] layers.2.weight[1]
        phase h2 omega 30: layers.1.bias[0] / layers.2.weight[1]""",
    "depthwise": """
        scale c1: expand.weight[0] expand.bias[0] / depthwise.weight[0]
        scale c2: project.weight[0] project.bias[0] / head.weight[1]""",
    "dense": """
        scale c1: a.weight[0] a.bias[0] / b.weight[1] c.weight[1]
        scale c2: b.weight[0] b.bias[0] / c.weight[1,1,0]
        scale c3: c.weight[0] c.bias[0] / head.weight[1]""",
    "attention": """
        scale h1: norm.weight[0] norm.bias[0] / qkv.weight[1]
        sign h1: norm.weight[0] norm.bias[0] qkv.weight[1]
        scale dk1: qkv.weight[0,0,1] qkv.bias[0,0,1] / qkv.weight[0,1,1] qkv.bias[0,1,1]
        sign dk1: qkv.weight[0,0,1] qkv.weight[0,1,1] qkv.bias[0,0,1] qkv.bias[0,1,1]
        linear dk1: qkv.weight[0,0,1] qkv.bias[0,0,1] / qkv.weight[0,1,1] qkv.bias[0,1,1]
        scale dv1: qkv.weight[0,2,1] qkv.bias[0,2,1] / out.weight[1,0,1]
        sign dv1: qkv.weight[0,2,1] qkv.bias[0,2,1] out.weight[1,0,1]
        linear dv1: qkv.weight[0,2,1] qkv.bias[0,2,1] / out.weight[1,0,1]""",
    "tied": "sign h1: code.weight[0] mix.weight[0] mix.weight[1] mix.bias[0]",
    "gru": "",
}
SPECS = {name: f"{BY_NAME[name].golden}\n{text}".strip() for name, text in GOLDEN.items()}


class Net(nn.Module):
    """Named submodules and parameters, and a function of them."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            elif isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                self.add_module(name, part)
        self.function = function

    def forward(self, *inputs):
        return self.function(self, *inputs)


def units(spec):
    return [str(unit) for unit in spec.units]


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


def proved(model, *inputs, loose=(), controls=True):
    """The unit symmetries of a network, each proved alone and all together, and each place of each
    needed.
    """
    spec = symmetry_spec(model, *inputs)
    proof = verify_units(spec, model, *inputs, controls=controls)
    assert proof.ok, str(proof)
    assert max((error for _, error in proof.units), default=0.0) < 1e-9
    assert {place.tensor for _, place in proof.loose} == set(loose), str(proof)
    assert PermutationSpec.parse(str(spec)) == spec
    return units(spec)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_unit_symmetries_of_the_market_are_found_and_proved(network):
    # Softmax does not see a bias of the keys, so that nothing depends on how it is scaled.
    found = proved(
        network.make(), network.inputs(), loose={"qkv.bias"} if network.name == "attention" else ()
    )
    assert found == lines(GOLDEN[network.name])


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_the_text_is_the_value_and_permutations_are_as_before(network):
    with torch.device("meta"):
        model = network.make()
    spec = symmetry_spec(model, network.inputs())
    assert (
        spec.without_units() == permutation_spec(network.make(), network.inputs()) == network.spec
    )
    assert str(spec).startswith(network.golden)
    assert (
        PermutationSpec.parse(str(spec)) == spec == symmetry_spec(network.make(), network.inputs())
    )
    assert hash(PermutationSpec.parse(str(spec))) == hash(spec)
    assert all(UnitSymmetry.parse(str(unit)) == unit for unit in spec.units)
    assert not spec.units or spec != network.spec


class Transformer(nn.Module):
    """A pre-norm block with an activation in its feed-forward part."""

    def __init__(self, activation, norm=nn.LayerNorm):
        super().__init__()
        self.activation = activation
        self.embed, self.n1, self.n2, self.head = nn.Linear(5, 8), norm(8), norm(8), nn.Linear(8, 3)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 11), nn.Linear(11, 8)

    def forward(self, x):
        x = self.embed(x)
        h = self.n1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return self.head(x + self.down(self.activation(self.up(self.n2(x)))))


NORMS = [
    "scale h1: n1.weight[0] n1.bias[0] / attn.in_proj_weight[1]",
    "scale h1: n2.weight[0] n2.bias[0] / up.weight[1]",
]
FEED = {
    "relu": (F.relu, ["scale h2: up.weight[0] up.bias[0] / down.weight[1]"]),
    "squared relu": (
        lambda z: F.relu(z).square(),
        ["scale h2: up.weight[0] up.bias[0] / down.weight[1]^2"],
    ),
    "gelu": (F.gelu, []),
    "tanh": (torch.tanh, ["sign h2: up.weight[0] up.bias[0] down.weight[1]"]),
}


@pytest.mark.parametrize(("activation", "feed"), FEED.values(), ids=FEED.keys())
def test_a_transformer_block_has_a_scale_for_each_norm_and_its_activation_tells_the_rest(
    activation, feed
):
    found = proved(Transformer(activation), torch.randn(3, 4, 5), controls=False)
    assert [unit for unit in found if " h2" in unit] == feed
    assert [unit for unit in found if unit.startswith("scale h1")] == NORMS
    assert [unit.split(":")[0] for unit in found if unit.startswith("linear")] == [
        "linear dk1",
        "linear dv1",
    ]


def rms(net, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + net.gain)


def swiglu(net, x):
    x = net.embed(x)
    h = rms(net, x)
    return net.head(x + net.down(F.silu(net.gate(h)) * net.up(h)))


def frozen(net, x):
    factor = net.weight.reshape(1, -1, 1, 1) * (net.var.reshape(1, -1, 1, 1) + 1e-3).rsqrt()
    shift = net.bias.reshape(1, -1, 1, 1) - net.mean.reshape(1, -1, 1, 1) * factor
    return net.head((net.conv(x) * factor + shift).relu())


def sines(net, x):
    z = net.a(x)
    return net.c(torch.sin(net.b(torch.sin(2 * z))).relu()) + net.d(torch.cos(6 * z))


def vector(*shape):
    return nn.Parameter(torch.ones(shape))


MORE = {
    "a gate passes no exponent, a gain that is used plus one is scaled from minus one": (
        Net(
            swiglu,
            embed=nn.Linear(5, 7),
            gain=vector(7),
            gate=nn.Linear(7, 11, bias=False),
            up=nn.Linear(7, 11, bias=False),
            down=nn.Linear(11, 7, bias=False),
            head=nn.Linear(7, 3),
        ),
        (3, 5),
        """
        scale h1: gain[0]+1.0 / gate.weight[1] up.weight[1]
        sign h1: gain[0]+1.0 embed.weight[0] embed.bias[0] down.weight[0] head.weight[1]
        sign h1: gain[0]+1.0 gate.weight[1] up.weight[1]
        scale h2: up.weight[0] / down.weight[1]
        sign h2: up.weight[0] down.weight[1]""",
    ),
    "glu": (
        nn.Sequential(nn.Linear(5, 14), nn.GLU(), nn.Linear(7, 3)),
        (3, 5),
        """
        scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]
        sign h1: 0.weight[0] 0.bias[0] 2.weight[1]""",
    ),
    "a batch norm by hand": (
        Net(
            frozen,
            conv=nn.Conv2d(2, 5, 3),
            weight=torch.ones(5),
            bias=torch.zeros(5),
            mean=torch.zeros(5),
            var=torch.ones(5),
            head=nn.Conv2d(5, 3, 1),
        ),
        (2, 2, 5, 5),
        """
        scale h1: weight[0] var[0]^2+0.001
        scale h1: weight[0] / mean[0] conv.weight[0] conv.bias[0]
        scale h1: bias[0] mean[0] conv.weight[0] conv.bias[0] / head.weight[1]
        sign h1: weight[0] mean[0] conv.weight[0] conv.bias[0]""",
    ),
    "frequencies that are multiples share a phase, and a function that is not odd needs a whole "
    "turn": (
        Net(sines, a=nn.Linear(2, 5), b=nn.Linear(5, 6), c=nn.Linear(6, 3), d=nn.Linear(5, 3)),
        (3, 2),
        """
        sign h1: a.weight[0] a.bias[0] b.weight[1]
        phase h1 omega 2: a.bias[0] / b.weight[1] d.weight[1]
        phase h2 omega 0.5: b.bias[0]""",
    ),
    "weights before a norm": (
        nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7, affine=False), nn.Tanh(), nn.Linear(7, 3)),
        (3, 5),
        """
        scale h1: 0.weight[0] 0.bias[0] 1.running_mean[0] 1.running_var[0]^2+1e-05
        sign h1: 0.weight[0] 0.bias[0] 1.running_mean[0] 3.weight[1]""",
    ),
    "weight norm": (
        nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 3)
        ),
        (3, 5),
        """
        scale h1: 0.parametrizations.weight.original1[0]
        scale h1: 0.bias[0] 0.parametrizations.weight.original0[0] / 2.weight[1]
        sign h1: 0.parametrizations.weight.original0[0] 0.parametrizations.weight.original1[0]""",
    ),
    "two linear maps in a row": (
        nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)),
        (3, 5),
        """
        scale h1: 0.weight[0] 0.bias[0] / 1.weight[1]
        sign h1: 0.weight[0] 0.bias[0] 1.weight[1]
        linear h1: 0.weight[0] 0.bias[0] / 1.weight[1]
        sign h2: 1.weight[0] 3.weight[1]""",
    ),
    "channels of a group norm": (
        nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 3, 1)),
        (2, 2, 3, 3),
        """
        scale c2: 1.weight[0,0,1] 1.bias[0,0,1] / 3.weight[1,0,1]""",
    ),
    "a recurrence with tanh": (
        Net(lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.RNN(5, 7), head=nn.Linear(7, 3)),
        (4, 2, 5),
        """
        sign h1: rnn.weight_ih_l0[0] rnn.weight_hh_l0[0] rnn.weight_hh_l0[1] rnn.bias_ih_l0[0] rnn.bias_hh_l0[0] head.weight[1]
        """,
    ),
    "a recurrence with relu": (
        Net(
            lambda net, x: net.head(net.rnn(x)[0]),
            rnn=nn.RNN(5, 7, nonlinearity="relu", bias=False),
            head=nn.Linear(7, 3),
        ),
        (4, 2, 5),
        "scale h1: rnn.weight_ih_l0[0] rnn.weight_hh_l0[0] / rnn.weight_hh_l0[1] head.weight[1]",
    ),
}


@pytest.mark.parametrize(("model", "shape", "text"), MORE.values(), ids=MORE.keys())
def test_other_networks(model, shape, text):
    assert proved(model, torch.randn(shape, generator=torch.Generator().manual_seed(0))) == lines(
        text
    )


def test_a_comparison_of_two_tensors_forbids_the_exponents_of_both():
    def function(net, x):
        return net.c(torch.where(net.a(x) > net.b(x), 1.0, 0.5))

    model = Net(
        function, a=nn.Linear(5, 7, bias=False), b=nn.Linear(5, 7, bias=False), c=nn.Linear(7, 2)
    )
    assert proved(model, torch.randn(3, 5)) == []


def test_a_buffer_that_the_network_writes_has_the_exponent_of_what_is_written():
    def function(net, x):
        h = net.a(x).relu()
        net.memory.copy_(h.mean(0))
        return net.b(h)

    model = Net(function, a=nn.Linear(5, 7), b=nn.Linear(7, 2), memory=torch.zeros(7))
    assert proved(model, torch.randn(3, 5), loose={"memory"}) == [
        "scale h1: memory[0] a.weight[0] a.bias[0] / b.weight[1]"
    ]


def test_units_in_several_segments_of_an_axis_are_scaled_alike_where_an_operation_ties_them():
    def function(net, x):
        h = net.a(x).unflatten(-1, (3, 4)).softmax(-2) * net.gain
        return net.b(h.flatten(-2).relu())

    assert proved(
        Net(function, a=nn.Linear(5, 12), gain=vector(4), b=nn.Linear(12, 3)), torch.randn(3, 5)
    ) == ["scale h1: gain[0] / b.weight[1,0,1]"]


def test_a_zero_that_is_written_into_has_no_exponent_of_its_own_choice():
    def function(net, x):
        y = torch.zeros(3, 7)
        y += net.a(x)
        return net.b(y + net.c(x))

    model = Net(function, a=nn.Linear(5, 7), b=nn.Linear(7, 2), c=nn.Linear(5, 7))
    assert proved(model, torch.randn(3, 5)) == []


def test_a_zero_that_stays_has_every_exponent():
    def function(net, x):
        return net.b((net.a(x) + torch.zeros(3, 7)).relu())

    assert proved(Net(function, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(3, 5)) == [
        "scale h1: a.weight[0] a.bias[0] / b.weight[1]"
    ]


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_keep_their_function(seed):
    model, x = network(seed)
    spec = symmetry_spec(model, x)
    try:
        proof = verify_units(spec, model, x)
    except SpecError as error:
        pytest.skip(str(error))
    assert proof.ok, f"{spec}\n{proof}"


WRONG = {
    "a sign through relu": ("mlp", "sign h1: 0.weight[0] 0.bias[0] 2.weight[1]"),
    "a scale through gelu": ("layer_norm", "scale h2: up.weight[0] up.bias[0] / down.weight[1]"),
    "a scale through tanh": ("mlp_without_bias", "scale h1: 0.weight[0] / 2.weight[1]"),
    "a scale without the bias": ("mlp", "scale h1: 0.weight[0] / 2.weight[1]"),
    "the wrong power": ("mlp", "scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]^2"),
    "a matrix through relu": ("mlp", "linear h1: 0.weight[0] 0.bias[0] / 2.weight[1]"),
    "a matrix across the residual stream": (
        "layer_norm",
        "linear h1: norm.weight[0] norm.bias[0] / up.weight[1]",
    ),
    "another frequency": ("siren", "phase h1 omega 20: layers.0.bias[0] / layers.1.weight[1]"),
    "a shift without a flip": ("siren", "phase h1 omega 30: layers.0.bias[0]"),
    "a variance without its epsilon": (
        "residual",
        "scale c2: inner.weight[0] inner.bias[0] bn1.running_mean[0] bn1.running_var[0]^2",
    ),
}


@pytest.mark.parametrize(("name", "text"), WRONG.values(), ids=WRONG.keys())
def test_wrong_symmetries_are_refused(name, text):
    spec = PermutationSpec.parse(f"{BY_NAME[name].golden}\n{text}")
    proof = verify_units(spec, BY_NAME[name].make(), BY_NAME[name].inputs())
    assert not proof.ok
    assert proof.broken == spec.units
    assert proof.units[0][1] > 1e-7
    assert "DOES NOT preserve" in str(proof)
    assert "BROKEN" in str(proof)


def test_evidence_names_every_symmetry_and_loose_places():
    network = BY_NAME["attention"]
    lines = [
        f"{unit}"
        for unit in PermutationSpec.parse(SPECS["attention"]).units
        if unit.head in ("scale h1", "scale dk1")
    ]
    spec = PermutationSpec.parse("\n".join([network.golden, *lines]))
    proof = verify_units(spec, network.make(), network.inputs(), controls=True)
    assert str(proof).startswith("preserves the function: relative error")
    assert "scale h1: norm.weight[0] norm.bias[0] / qkv.weight[1]" in str(proof)
    assert "scale dk1: qkv.bias[0,1,1] takes part or not without effect" in str(proof)


def generic(model, seed=0):
    """Random double-precision weights, positive variances."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        n: torch.randn(t.shape, generator=generator, dtype=torch.float64)
        / max(1, t.shape[-1]) ** 0.5
        for n, t in model.state_dict().items()
        if t.is_floating_point()
    }
    return {n: t.abs() + 0.5 if "var" in n else t for n, t in drawn.items()}


def directions(spec, theta, group, unit):
    """Tangents of scaling one unit at each place of its group, from the constant that the network
    adds there.
    """
    offsets = {place[:4]: place.offset for unit in spec.units for place in unit.places}
    parent = next(g.per for g in spec.declared if g.name == group)
    chosen = torch.zeros(spec.groups.get(parent, 1), spec.groups[group], dtype=torch.float64)
    chosen[0, unit] = 1
    for o in spec.occurrences(group):
        here = along(spec, o, chosen if parent else chosen[0], elsewhere=0.0)
        yield o.tensor, (theta[o.tensor] + offsets.get(tuple(o), 0.0)) * here


@pytest.mark.parametrize("name", [n.name for n in NETWORKS])
def test_as_many_scales_are_found_as_there_are_exponents_that_change_nothing_to_first_order(name):
    network = BY_NAME[name]
    model, x, spec = (
        network.make().double().eval(),
        network.inputs(batch=5).double(),
        PermutationSpec.parse(SPECS[name]),
    )
    draws = [
        generic(model, seed) for seed in range(4)
    ]  # the same exponents at all weights; some units are dead at some of them
    for group in spec.groups:
        derivatives = [
            torch.stack(
                [
                    derivative(model, theta, x, *direction)
                    for direction in directions(spec, theta, group, unit=1)
                ],
                1,
            )
            for theta in draws
        ]
        singular = torch.linalg.svdvals(torch.cat(derivatives))
        dimension = int((singular < 1e-6 * singular[0]).sum())
        scales = sum(unit.kind == "scale" and unit.group == group for unit in spec.units)
        # What scales the inside of a head scales the head, and softmax does not see a bias of the
        # keys.
        assert dimension == scales + {"head1": 3, "dk1": 1}.get(group, 0), group


@pytest.mark.parametrize("name", ["mlp", "mlp_without_bias", "layer_norm", "siren", "tied"])
def test_as_many_signs_are_found_as_there_are_sign_changes_that_change_nothing(name):
    network = BY_NAME[name]
    model, x, spec = (
        network.make().double().eval(),
        network.inputs(batch=8).double(),
        PermutationSpec.parse(SPECS[name]),
    )
    theta = generic(model)
    reference = model_at(model, theta, x)
    for group in spec.groups:
        places = list(spec.occurrences(group))
        counts = []
        for unit in range(2):  # the first may be dead
            same = 0
            for chosen in itertools.product([False, True], repeat=len(places)):
                moved = {name: tensor.clone() for name, tensor in theta.items()}
                for o in itertools.compress(places, chosen):
                    moved[o.tensor].select(o.axis, unit).neg_()
                same += torch.allclose(model_at(model, moved, x), reference, rtol=1e-9, atol=1e-12)
            counts.append(same)
        assert min(counts) == 2 ** sum(
            unit.kind == "sign" and unit.group == group for unit in spec.units
        ), group


def derivative(model, theta, x, tensor, direction, step=1e-7):
    """Along a direction in one tensor, to about 1e-8; a longer step would meet kinks."""
    ahead, behind = (
        model_at(model, theta | {tensor: theta[tensor] + h * direction}, x) for h in (step, -step)
    )
    return (ahead - behind).flatten() / (2 * step)


def model_at(model, theta, x):
    with torch.no_grad():
        return torch.func.functional_call(model, theta, (x,))


def test_a_relu_network_has_one_scale_for_each_hidden_layer_and_a_tanh_network_one_sign():
    sizes = [3, 4, 5, 6, 7, 2]
    for activation, kind in (
        (nn.ReLU, "scale"),
        (nn.LeakyReLU, "scale"),
        (nn.Tanh, "sign"),
        (nn.GELU, None),
        (nn.Sigmoid, None),
    ):
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())][
            :-1
        ]
        spec = symmetry_spec(nn.Sequential(*layers), torch.randn(2, 3))
        assert [unit.kind for unit in spec.units] == ([kind] * (len(sizes) - 2) if kind else [])
        assert [unit.group for unit in spec.units] == (list(spec.groups) if kind else [])


def weights(spec, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        n: torch.randn((*batch, *shape), generator=generator, dtype=torch.float64)
        for n, shape in spec.shapes.items()
    }
    return {name: tensor.abs() + 0.5 if "var" in name else tensor for name, tensor in drawn.items()}


def close(a, b):
    return a.keys() == b.keys() and all(
        torch.allclose(a[n].double(), b[n].double(), rtol=1e-9, atol=1e-9) for n in a
    )


LAWFUL = [name for name, text in GOLDEN.items() if text]


@pytest.mark.parametrize("element", [Rescaling, SymmetryElement])
@pytest.mark.parametrize("name", LAWFUL)
def test_products_act_as_compositions_and_inverses_undo(name, element):
    spec, generator = PermutationSpec.parse(SPECS[name]), torch.Generator().manual_seed(1)
    g, h, k = (element.random(spec, generator) for _ in range(3))
    theta = weights(spec)
    assert close((g @ h)(theta), g(h(theta)))
    assert close(((g @ h) @ k)(theta), (g @ (h @ k))(theta))
    assert close((~g @ g)(theta), theta)
    assert close((g @ ~g)(theta), theta)
    assert close(element.identity(spec)(theta), theta)
    assert not close(g(theta), theta)


def test_permutations_and_rescalings_do_not_commute_but_permutations_carry_rescalings():
    spec, generator = PermutationSpec.parse(SPECS["attention"]), torch.Generator().manual_seed(2)
    p, r = Permutation.random(spec, generator), Rescaling.random(spec, generator)
    theta = weights(spec)
    assert not close(p(r(theta)), r(p(theta)))
    assert close(p(r(theta)), r.permuted(p)(p(theta)))


def test_signs_turn_phases_around():
    spec = PermutationSpec.parse(SPECS["siren"])
    one = Rescaling.identity(spec)
    flip = Rescaling(spec, (-one.values[0], *one.values[1:]))
    turn = Rescaling(spec, (one.values[0], one.values[1] + 1, *one.values[2:]))
    theta = weights(spec)
    assert not close((flip @ turn)(theta), (turn @ flip)(theta))
    assert close((flip @ turn)(theta), (~turn @ flip)(theta))


def test_leading_axes_are_batch_and_types_follow_the_weights():
    spec, generator = PermutationSpec.parse(SPECS["residual"]), torch.Generator().manual_seed(3)
    g = SymmetryElement.random(spec, generator)
    theta = weights(spec, 2, 3)
    moved = g(theta)
    single = g({name: tensor[1, 2] for name, tensor in theta.items()})
    assert close({name: tensor[1, 2] for name, tensor in moved.items()}, single)
    half = g({name: tensor.float() for name, tensor in theta.items()})
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    with pytest.raises(
        SpecError, match="the specification and the weights must come from the same architecture"
    ):
        g({})


@pytest.mark.parametrize("name", LAWFUL)
def test_elements_preserve_the_function_of_a_network_in_single_precision(name):
    network = BY_NAME[name]
    model, x = network.make().eval(), network.inputs()
    spec = PermutationSpec.parse(SPECS[name])
    g = SymmetryElement.random(spec, torch.Generator().manual_seed(4))
    theta = params.from_module(model)
    assert torch.allclose(
        params.call(model, g(theta), x), model(x), atol=1e-4 if name == "siren" else 1e-5
    )


def test_an_element_is_written_and_read(tmp_path):
    spec = PermutationSpec.parse(SPECS["siren"])
    g = Rescaling.random(spec, torch.Generator().manual_seed(5))
    g.save(tmp_path / "g.json")
    back = Rescaling.load(tmp_path / "g.json")
    assert back.spec == spec
    assert all(
        torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(back.values, g.values, strict=True)
    )

    content = json.loads((tmp_path / "g.json").read_text())
    for damage in (
        {**content, "version": 2},
        {**content, "values": content["values"][1:]},
        {"format": "wsl.Rescaling"},
        [],
    ):
        (tmp_path / "g.json").write_text(json.dumps(damage))
        with pytest.raises(SpecError, match=r"g\.json: "):
            Rescaling.load(tmp_path / "g.json")


def test_values_that_are_no_symmetries_are_refused():
    mlp, siren = PermutationSpec.parse(SPECS["mlp"]), PermutationSpec.parse(SPECS["siren"])
    one = Rescaling.identity(mlp).values
    with pytest.raises(
        SpecError, match="1 values given, but the specification has 2 scales, signs and phases"
    ):
        Rescaling(mlp, one[:1])
    with pytest.raises(
        SpecError,
        match="scale h1: factors of a scale must be positive and finite; signs are a symmetry of "
        "their own",
    ):
        Rescaling(mlp, (-one[0], one[1]))
    with pytest.raises(
        SpecError,
        match=r"scale h1: needs torch\.float64 values of shape \(7,\), got torch\.float32 \(7,\)",
    ):
        Rescaling(mlp, (one[0].float(), one[1]))
    identity = Rescaling.identity(siren).values
    with pytest.raises(SpecError, match="sign h1: the values of a sign must be -1 or 1"):
        Rescaling(siren, (identity[0] * 2, *identity[1:]))
    with pytest.raises(SpecError, match="two different specifications"):
        Rescaling.identity(mlp) @ Rescaling.identity(siren)
    with pytest.raises(SpecError, match="two different specifications"):
        SymmetryElement(Permutation.identity(mlp), Rescaling.identity(siren))


BAD = {
    "scale h1: 0.weight[1]": r"'0\.weight\[1\]' is not a place where 'h1' acts",
    "scale h3: 0.weight[0]": "there is no group 'h3'",
    "grow h1: 0.weight[0]": "expected 'KIND GROUP: places', where KIND is one of scale, sign, "
    "phase, linear",
    "scale h1: 0.weight[0] 0.weight[0]": "a place is given twice",
    "scale h1: 0.weight[0] (0.bias)[": r"cannot read|expected",
    "sign h1: 0.weight[0]^2": r"exponents \[2\]; it needs places, with exponents \[1\]",
    "scale h1: 0.weight[0]^0": "with exponents other than 0",
    "phase h1: 0.bias[0]": "'omega' is the positive frequency of a phase, and of nothing else",
    "scale h1 omega 2: 0.bias[0]": "'omega' is the positive frequency of a phase, and of nothing "
    "else",
    "phase h1 omega 2: / 0.bias[0]": "no place shifts; write the bias before '/'",
    "phase h1 omega x: 0.bias[0]": "'x' is not a number",
    "scale h1: 0.bias[0]\nscale h1: 0.bias[0]+1.0": r"'0\.bias\[0\]\+1\.0' has another constant "
    r"than 0\.0 elsewhere",
    "scale h1: 0.bias[0]\nphase h1 omega 2: 0.bias[0]": "'scale h1' also acts where it shifts, "
    "and their products",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD.keys())
def test_malformed_symmetries_are_refused(text, message):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.parse(f"{BY_NAME['mlp'].golden}\n{text}")


def test_names_with_brackets_colons_and_spaces_are_read_back():
    text = "h = 2\na b[0]:c: h 3\nw: 3 h\nscale h: a b[0]:c[0] / w[1]"
    spec = PermutationSpec.parse(text)
    assert spec.units == (
        UnitSymmetry("scale", "h", (Place("a b[0]:c", 0), Place("w", 1, exponent=-1))),
    )
    assert str(spec) == text
