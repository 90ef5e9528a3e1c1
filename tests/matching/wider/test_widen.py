"""Merging into a wider network: the average at one end, the ensemble at the other."""

import pytest
import torch
from networks import BY_NAME
from torch import nn

from wsl import params, permutation_spec
from wsl.matching.wider import cluster, widen, written_axes
from wsl.merging import average
from wsl.symmetry import Permutation, PermutationSpec, SpecError

EXACT = ["mlp", "mlp_without_bias", "cnn", "residual", "siren", "dense"]


def members(network, count=3):
    return [network.weights(seed=seed, dtype=torch.float64) for seed in range(count)]


def outputs(network, theta, model=None):
    return params.call((model or network.make()).eval(), theta, network.inputs(5).double())


@pytest.mark.parametrize("name", EXACT)
def test_with_every_unit_apart_it_computes_the_mean_of_the_outputs(name):
    """Batch norm, flattened and concatenated axes, streams that are added to: all exact."""
    network = BY_NAME[name]
    thetas = members(network)
    wide = widen(network.spec, thetas, 2.0)
    assert wide.spec.groups == {g: 3 * n for g, n in network.spec.groups.items()}
    assert not wide.spec.validate(wide.params)
    mean = sum(outputs(network, theta) for theta in thetas) / 3
    torch.testing.assert_close(outputs(network, wide.params), mean)


def test_a_depthwise_network_of_more_channels_is_the_same_code():
    network = BY_NAME["depthwise"]
    thetas, model = members(network), network.make()
    wide = widen(network.spec, thetas, 2.0)
    model.depthwise.groups = wide.spec.groups["c1"]
    mean = sum(outputs(network, theta) for theta in thetas) / 3
    torch.testing.assert_close(outputs(network, wide.params, model), mean)


def test_a_recurrent_network_of_more_units_is_the_same_code():
    spec = PermutationSpec.parse(
        "h = 4\nweight_ih_l0: (3 h) 5\nweight_hh_l0: (3 h) h\nbias_ih_l0: (3 h)\nbias_hh_l0: (3 h)"
    )
    small = [nn.GRU(5, 4).double() for _ in range(2)]
    x = torch.randn(6, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wide = widen(spec, [m.state_dict() for m in small], 1.0)
    large = nn.GRU(5, 8).double()
    large.load_state_dict(wide.params)
    states = torch.cat([m(x)[0] for m in small], -1)
    position, apart = wide.clusters["h"].position, wide.clusters["h"].members
    theirs = [position[u] + 4 * int(apart[1, u]) for u in range(8)]
    torch.testing.assert_close(large(x)[0], states[..., theirs])


@pytest.mark.parametrize("name", list(BY_NAME))
def test_with_every_unit_merged_it_is_the_plain_average(name):
    network = BY_NAME[name]
    thetas = members(network)
    wide = widen(network.spec, thetas, 0.0)
    assert wide.spec == network.spec.without_units()
    for key, tensor in average(thetas).items():
        torch.testing.assert_close(wide.params[key], tensor)
        assert wide.params[key].dtype == tensor.dtype


@pytest.mark.parametrize("name", ["attention", "gru", "layer_norm", "residual", "tied"])
def test_between_the_ends_the_weights_fit_the_new_specification(name):
    network = BY_NAME[name]
    wide = widen(network.spec, members(network), 0.5)
    own = {g.name for g in network.spec.declared if g.per is None}
    for group, size in network.spec.groups.items():
        assert wide.spec.groups[group] == size + (round(size / 2) if group in own else 0)
    assert not wide.spec.validate(wide.params)


def test_units_that_agree_are_merged_at_no_loss():
    """Half of the units of each group are shared: half as much again is enough for the ensemble."""
    network = BY_NAME["mlp"]
    a, b = members(network, 2)
    b = {**b, "4.bias": a["4.bias"]}
    b["0.weight"][:4], b["0.bias"][:4] = a["0.weight"][:4], a["0.bias"][:4]
    wide = widen(network.spec, [a, b], {"h1": 3 / 7, "h2": 1.0})
    shared = wide.clusters["h1"].members.all(0)
    assert wide.clusters["h1"].position[shared].tolist() == [0, 1, 2, 3]
    mean = (outputs(network, a) + outputs(network, b)) / 2
    torch.testing.assert_close(outputs(network, wide.params), mean)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_the_wide_function_does_not_depend_on_the_order_of_units(name):
    network = BY_NAME[name]
    thetas = members(network)
    g = Permutation.random(network.spec, torch.Generator().manual_seed(1))
    wide, moved = (
        widen(network.spec, each, 0.7) for each in (thetas, [g(theta) for theta in thetas])
    )
    torch.testing.assert_close(outputs(network, moved.params), outputs(network, wide.params))


def test_features_say_which_units_agree():
    network = BY_NAME["mlp"]
    thetas, size = members(network, 2), network.spec.groups["h1"]
    features = torch.zeros(2, size, 1)
    features[1, 5] = 1.0
    wide = widen(network.spec, thetas, {"h1": 1 / size}, features={"h1": features})
    apart = wide.clusters["h1"]
    assert apart.position[~apart.members.all(0)].tolist() == [5, 5]
    assert wide.spec.groups["h2"] == network.spec.groups["h2"]


def test_clusters_of_many_networks_join_those_that_are_close():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(1, 6, 8, generator=rng).repeat(4, 1, 1)
    features[2:] += 5 * torch.randn(1, 6, 8, generator=rng)
    found = cluster(features + 1e-3 * torch.randn(4, 6, 8, generator=rng), 12)
    assert found.position.tolist() == [a for a in range(6) for _ in range(2)]
    assert found.members.sum(0).tolist() == [2] * 12
    assert torch.equal(found.members[0], found.members[1])
    assert len(cluster(features, 1)) == 6
    assert len(cluster(features, 99)) == 24


def test_embeddings_and_transposed_convolutions_are_written_along_their_second_axis():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = nn.Embedding(9, 5), nn.Linear(5, 7)
            self.up, self.head = nn.ConvTranspose1d(7, 6, 2), nn.Conv1d(6, 3, 1)

        def forward(self, tokens):
            return self.head(self.up(self.mix(self.embed(tokens)).relu().mT).relu())

    nets, x = [Net().double() for _ in range(2)], torch.randint(9, (4, 8))
    spec = permutation_spec(nets[0], x)
    assert written_axes(nets[0]) == {"embed.weight": 1, "up.weight": 1}
    thetas = [params.from_module(net) for net in nets]
    wide = widen(spec, thetas, 1.0, written=written_axes(nets[0]))
    mean = (nets[0](x) + nets[1](x)) / 2
    torch.testing.assert_close(params.call(nets[0], wide.params, x), mean)


def test_what_cannot_be_widened_is_refused_by_name():
    network = BY_NAME["attention"]
    spec, (a, b) = network.spec, members(network, 2)
    family = next(g.name for g in spec.declared if g.per is not None)
    with pytest.raises(ValueError, match="widen: got 1 networks; at least two are needed"):
        widen(spec, [a], 0.5)
    with pytest.raises(SpecError, match=f"widen: '{family}' is no group that can be widened"):
        widen(spec, [a, b], {family: 1.0})
    with pytest.raises(ValueError, match="is to get 2 of its size beyond its own, but of 2 netw"):
        widen(spec, [a, b], 2.0)
    with pytest.raises(SpecError, match=r"features of 'h1' have shape \(2, 1, 1\)"):
        widen(
            BY_NAME["mlp"].spec,
            members(BY_NAME["mlp"], 2),
            0.5,
            features={"h1": torch.ones(2, 1, 1)},
        )
    name = next(iter(b))
    with pytest.raises(ValueError, match=f"{name}: .* in 'network 1' are NaN or infinite"):
        widen(spec, [a, {**b, name: b[name] * float("nan")}], 0.5)
    with pytest.raises(SpecError, match=r"network 0: has batch axes \(2,\)"):
        widen(spec, [params.stack([a, b]), b], 0.5)
