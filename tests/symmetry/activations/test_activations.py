"""Laws of activations: the group acts on every site as annotated, and a run is the network."""

import dataclasses
import functools

import pytest
import torch
from networks import BY_NAME, DEEP, NETWORKS
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import Permutation, PermutationSpec, SpecError, activations, move_axes, parse_axes

MARKET = [*NETWORKS, *DEEP]
each_network = pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def values_of(found, theta, *inputs):
    seen = {}
    found.run(theta, *inputs, visit=lambda site, z: seen.update({site.name: z.clone()}))
    return seen


@functools.cache
def read(network):
    """The activations of a network in float64, read once."""
    return activations(network.make().double(), network.inputs().double())


def law_fails_at(found, g, *inputs, theta, along=None):
    """The sites where moving the weights does not move the value as annotated."""
    before = values_of(found, theta, *inputs)
    after = values_of(found, g(theta), *inputs)
    assert list(before) == [site.name for site in found.sites] == list(after)
    return [
        site.name
        for site in found.sites
        if not torch.allclose(
            found.moved(along or g, site, before[site.name]), after[site.name], rtol=1e-8, atol=1e-8
        )
    ]


@each_network
def test_moving_the_weights_moves_every_site_along_its_annotated_axes(network):
    found, x = read(network), network.inputs().double()
    theta = network.weights(seed=1, dtype=torch.float64)
    assert found.spec == network.spec or len(network.spec.groups) == len(found.spec.groups)
    g = Permutation.random(found.spec, generator(2))
    assert law_fails_at(found, g, x, theta=theta) == []
    shown = {name for site in found.sites for name in site.groups}
    assert shown == set(found.spec.groups)


@each_network
def test_the_law_does_not_hold_along_other_elements(network):
    found, x = read(network), network.inputs().double()
    theta = network.weights(seed=1, dtype=torch.float64)
    g, other = (Permutation.random(found.spec, generator(seed)) for seed in (2, 3))
    wrong = law_fails_at(found, g, x, theta=theta, along=other)
    differ = {n for n, index in g.indices.items() if not torch.equal(index, other.indices[n])}
    assert differ
    assert set(wrong) >= {
        site.name for site in found.sites if len(site.groups) == 1 and {*site.groups} <= differ
    }


@each_network
def test_a_run_is_the_network_at_every_batch_size(network):
    model, found = network.make().double().eval(), read(network)
    theta = network.weights(seed=1, dtype=torch.float64)
    model.load_state_dict(theta)
    before = {name: tensor.clone() for name, tensor in theta.items()}
    for batch in (3, 5):
        x = network.inputs(batch, seed=4).double()
        # The fused recurrent kernels add in another order where weights lie apart in memory.
        torch.testing.assert_close(found.run(theta, x), model(x), rtol=1e-12, atol=1e-12)
        assert torch.equal(found.run(theta, x), model(x)) or network.name == "gru"
    assert all(torch.equal(theta[name], tensor) for name, tensor in before.items())


def test_sites_say_what_they_are_in_the_order_of_computation():
    found = read(BY_NAME["residual"])
    assert [str(site) for site in found.sites] == [
        "conv2d: 3 c1 6 6",
        "relu: 3 c1 6 6",
        "conv2d_1: 3 c2 6 6",
        "batch_norm: 3 c2 6 6",
        "relu_1: 3 c2 6 6",
        "conv2d_2: 3 c1 6 6",
        "batch_norm_1: 3 c1 6 6",
        "add: 3 c1 6 6",
        "relu_2: 3 c1 6 6",
        "mean: 3 c1",
        "linear: 3 3",
    ]
    by_name = {site.name: site for site in found.sites}
    assert by_name["conv2d_1"].parameters == ("inner.weight", "inner.bias")
    assert (by_name["conv2d_1"].module, by_name["conv2d_1"].op) == ("inner", "conv2d")
    assert by_name["add"].sources == ("relu", "batch_norm_1")
    assert by_name["add"].module == ""
    assert by_name["batch_norm_1"].shape == (3, 5, 6, 6)


def test_products_concatenations_and_families_are_annotated():
    def text(name):
        return {site.name: str(site).partition(": ")[2] for site in read(BY_NAME[name]).sites}

    assert text("cnn")["flatten"] == "3 (c2 4)"
    assert text("dense")["cat"] == "3 c1+c2 4 4"
    attention = text("attention")
    assert attention["linear_1"] == "3 6 (head1 dk1)+(head1 dk1)+(head1 dv1)"
    assert attention["getitem"] == "3 head1 6 dk1"
    assert attention["flatten"] == "3 6 (head1 dv1)"
    assert text("gru")["getitem"] == "3 6 h1"
    # The transposed weights of a tied network are no activation.
    assert "numpy_t" not in text("tied")


class InPlace(nn.Module):
    """In-place operations, a region without gradients, dropout, an input by name, two outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.norm = nn.BatchNorm1d(7)
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, x, *, shift=None, times=1):
        x = x.mul_(2)
        with torch.no_grad():
            factor = (x * self.scale).mean(1, keepdim=True).exp()
        y = F.relu(self.norm(self.a(x)) * factor, inplace=True)
        y += F.dropout(self.b(y), 0.5, self.training)
        y.add_(y if shift is None else shift)
        return {"out": self.c(y) * times, "hidden": (y.sum(1),)}


def test_in_place_operations_touch_neither_weights_nor_inputs():
    model, x = InPlace().double().eval(), torch.randn(3, 5, dtype=torch.float64)
    call = {"shift": torch.ones(3, 1, dtype=torch.float64), "times": 3}
    found, theta = activations(model, x.clone(), **call), params.from_module(model)
    before, given = {n: t.clone() for n, t in theta.items()}, x.clone()
    out, expected = found.run(theta, given, **call), model(x.clone(), **call)
    assert torch.equal(given, x)
    assert all(torch.equal(theta[name], tensor) for name, tensor in before.items())
    assert torch.equal(out["out"], expected["out"])
    assert torch.equal(out["hidden"][0], expected["hidden"][0])
    g = Permutation.random(found.spec, generator(1))
    assert not torch.equal(g.indices["h1"], torch.arange(7))
    one = activations(model, x.clone())
    assert law_fails_at(one, g, x.clone(), theta=theta) == []
    assert any("." in site.name for site in found.sites)


def test_gradients_flow_to_weights_but_not_through_regions_without_them():
    class Region(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x):
            y = self.a(x).tanh()
            with torch.no_grad():
                scale = y.square().mean(1, keepdim=True)
            return self.b(y * scale)

    model, x = Region().eval(), torch.randn(3, 5)
    theta = {n: t.requires_grad_() for n, t in params.from_module(model).items()}
    activations(model, x).run(theta, x).sum().backward()
    model(x).sum().backward()
    assert all(torch.equal(theta[n].grad, p.grad) for n, p in model.named_parameters())


def test_what_a_visitor_returns_takes_the_place_of_the_value():
    network = BY_NAME["residual"]
    model, theta, x = network.make().eval(), network.weights(seed=1), network.inputs()
    found = activations(model, x)
    out = found.run(theta, x, visit=lambda site, z: z * 0 if site.name == "mean" else None)
    assert torch.equal(out, theta["head.bias"].expand(3, 3))
    with pytest.raises(SpecError, match=r"mean: the value has shape \(3, 5\), but .* has \(3,\)"):
        found.run(theta, x, visit=lambda site, z: z[:, 0] if site.name == "mean" else None)


def test_a_replaced_value_of_an_in_place_operation_is_seen_by_all_that_follows():
    class Twice(nn.Module):
        def forward(self, x):
            y = x + 0
            view = y.flatten()
            y.relu_()
            return view + y.flatten()

    found = activations(Twice(), torch.randn(3, 2))
    ones = found.run(
        {}, torch.randn(3, 2), visit=lambda s, z: z * 0 + 1 if s.op == "relu" else None
    )
    assert torch.equal(ones, torch.full((6,), 2.0))


def test_groups_carry_the_names_of_the_specification_that_is_given():
    network = BY_NAME["cnn"]
    model, x = network.make().double(), network.inputs().double()
    given = network.spec.rename_groups({"c1": "first", "c2": "second", "h1": "last"})
    found = activations(model, x, spec=given)
    assert found.spec == given
    assert {name for site in found.sites for name in site.groups} == {"first", "second", "last"}
    g = Permutation.random(given, generator(1))
    assert law_fails_at(found, g, x, theta=network.weights(seed=1, dtype=torch.float64)) == []


def test_groups_that_are_left_out_or_tied_are_written_so():
    network = BY_NAME["mlp"]
    text = network.golden.replace("h1 = 7, h2 = 6", "h2 = 6").replace("h1", "7")
    found = activations(network.make(), network.inputs(), spec=PermutationSpec.parse(text))
    assert [str(site) for site in found.sites][:3] == ["linear: 3 7", "relu: 3 7", "linear_1: 3 h2"]
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))
    tied = PermutationSpec.parse("h = 4\n0.weight: h 4\n1.weight: h h\n2.weight: 4 h")
    found = activations(model, torch.randn(3, 4), spec=tied)
    assert [str(site) for site in found.sites] == ["linear: 3 h", "linear_1: 3 h", "linear_2: 3 4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h = 7\n0.weight: h 5\n2.weight: 4 7", "2.weight: is '4 7' in the given specification"),
        ("h = 7\n0.weight: h 5", "2.weight: is missing in the given specification, but .* '4 h1'"),
        (
            "h = 7\n0.weight: h 5\n2.weight: 4 h\n3.weight: h",
            "3.weight: the given specification has it, but the network does not",
        ),
        ("h = 8\n0.weight: h 5\n2.weight: 4 h", "0.weight: is 'h 5' in the given specification"),
    ],
)
def test_a_specification_of_another_network_is_refused(text, message):
    network = BY_NAME["mlp_without_bias"]
    with pytest.raises(SpecError, match=message):
        activations(network.make(), network.inputs(), spec=PermutationSpec.parse(text))


def test_a_family_where_the_network_has_a_group_is_refused():
    class Alike(nn.Module):
        """Channels of all blocks move alike, since the blocks are added."""

        def __init__(self):
            super().__init__()
            self.a = nn.Linear(5, 6)

        def forward(self, x):
            return self.a(x).relu().unflatten(-1, (2, 3)).sum(1).tanh().sum(-1)

    model, x = Alike(), torch.randn(4, 5)
    own = str(activations(model, x).spec)
    assert own.startswith("h1 = 2, h2 = 3\n")
    given = PermutationSpec.parse(own.replace("h2 = 3", "h2 = 3 per h1"))
    with pytest.raises(SpecError, match=r"group 'h2' is per 'h1' in the given .*without 'per'"):
        activations(model, x, spec=given)


def test_the_model_is_left_as_it_was():
    model = BY_NAME["residual"].make().train()
    before = params.from_module(model)
    found = activations(model, BY_NAME["residual"].inputs())
    found.run(BY_NAME["residual"].weights(seed=1), BY_NAME["residual"].inputs(5))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_tied_weights_are_read_and_wrappers_looked_through():
    shared = nn.Linear(4, 4)
    model, x = nn.Sequential(shared, nn.Tanh(), shared), torch.randn(3, 4)
    theta = {name: tensor + 1 for name, tensor in params.from_module(model).items()}
    assert torch.equal(activations(model, x).run(theta, x), params.call(model, theta, x))
    inside, own, x = BY_NAME["mlp"].make(), BY_NAME["mlp"].weights(seed=1), torch.randn(2, 5)
    found = activations(nn.DataParallel(inside), BY_NAME["mlp"].inputs())
    theta = {f"module.{name}": tensor for name, tensor in own.items()}
    assert torch.equal(found.run(theta, x), params.call(inside, own, x))


def test_a_network_that_is_read_from_one_call_is_run_too():
    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor

    class Own(nn.Module):
        """A structure that export does not know, and a tensor from nowhere."""

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x):
            return Output(self.b(self.a(x + torch.tensor([1.0, 2, 3, 4, 5])).relu()))

    model, x = Own(), torch.randn(3, 5)
    found, theta = activations(model, x), BY_NAME["mlp"].weights(seed=1)
    theta = {n: t + 1 for n, t in params.from_module(model).items()}
    expected = torch.func.functional_call(model, theta, (x,)).logits
    assert torch.equal(found.run(theta, x), expected)
    assert [str(site) for site in found.sites][1:3] == ["linear: 3 h1", "relu: 3 h1"]


class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x):
        y = self.a(x).relu()
        return self.b(y) if float(x.sum()) > 0 else self.b(y) * 2


def test_the_members_of_a_family_move_with_their_parent_wherever_it_stands():
    spec = PermutationSpec.parse("head = 3, dk = 4 per head\nw: (head dk)")
    g, value = Permutation.random(spec, generator(1)), torch.randn(2, 12)
    expected = value[:, g({"w": torch.arange(12)})["w"]]
    assert torch.equal(move_axes(g, parse_axes("2 (head dk)"), value), expected)
    apart = value.reshape(2, 3, 4)
    moved = expected.reshape(2, 3, 4)
    assert torch.equal(move_axes(g, parse_axes("2 head dk"), apart), moved)
    assert torch.equal(
        move_axes(g, parse_axes("dk head 2"), apart.permute(2, 1, 0)), moved.permute(2, 1, 0)
    )
    both = torch.cat([value, torch.ones(2, 5)], 1)
    assert torch.equal(move_axes(g, parse_axes("2 (head dk)+5"), both)[:, :12], expected)


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
def test_what_cannot_be_run_is_refused():
    found = activations(Reading(), torch.randn(3, 5))
    with pytest.raises(SpecError, match="Reading: Python reads 1 values on the way"):
        found.run(params.from_module(Reading()), torch.randn(3, 5))
    with torch.device("meta"):
        model = BY_NAME["mlp"].make()
    found = activations(model, BY_NAME["mlp"].inputs())
    assert str(found.sites[0]) == "linear: 3 h1"
    with pytest.raises(SpecError, match=r"0\.weight: is on the meta device"):
        found.run(BY_NAME["mlp"].weights(), BY_NAME["mlp"].inputs())
    found = activations(BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())
    with pytest.raises(SpecError, match="have batch axes"):
        found.run(BY_NAME["mlp"].weights(2), BY_NAME["mlp"].inputs())
    with pytest.raises(SpecError, match="'3 h1' have sizes"):
        move_axes(Permutation.identity(found.spec), found.sites[0].axes, torch.ones(3, 6))


def test_another_network_at_other_shapes_is_refused():
    class Depends(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x):
            y = self.a(x).relu()
            return self.b(y if len(x) > 3 else y * 2)

    found = activations(Depends(), torch.randn(5, 5))
    with pytest.raises(SpecError, match="Depends: computes something else for inputs of shapes"):
        found.run(params.from_module(Depends()), torch.randn(2, 5))
