"""Networks that give weights or features of units: what goes in permuted comes out permuted."""

import pytest
import torch
from functionals import DTYPES, MARKET, compiled, one_alone, randomised
from networks import BY_NAME, NETWORKS

from wsl.nn import EquivariantNet, FlatEdit, NFNEdit, UnitFeatures
from wsl.params import call
from wsl.symmetry import Permutation, PermutationSpec, SpecError
from wsl.testing import assert_equivariant


def build(cls, spec, dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    return randomised(cls(spec, **{"hidden": 4, "layers": 2, **kwargs}), dtype)


def attention(spec, **kwargs):
    return EquivariantNet(spec, heads=2, **kwargs)


def hnp(spec, **kwargs):
    return NFNEdit(spec, fixed="exact", **{**kwargs, "hidden": 2})


def np_layers(spec, **kwargs):
    return NFNEdit(spec, fourier=2, positions=1, **kwargs)


def flat(spec, **kwargs):
    kwargs.pop("layers")
    return FlatEdit(spec, **kwargs)


EDITORS = [EquivariantNet, attention, np_layers, hnp]
SMALL = [
    network
    for network in MARKET
    if sum(shape.numel() for shape in network.spec.shapes.values()) < 2000
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", EDITORS)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_edits_are_equivariant_over_the_market(network, make, dtype):
    if make is hnp and network not in SMALL:
        pytest.skip("exact layers grow with the square of the fixed sizes")
    net, theta = build(make, network.spec, dtype, scale=0.5), network.weights(2, dtype=dtype)
    assert net.equivariance == "equivariant"
    edited = net(theta)
    assert {n: (t.shape, t.dtype) for n, t in edited.items()} == {
        n: (theta[n].shape, theta[n].dtype) for n in edited
    }
    assert (
        max((t - theta[n]).abs().max() for n, t in edited.items() if t.is_floating_point()) > 1e-2
    )
    assert_equivariant(net, network.spec, theta, channel_dims=0, trials=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_outputs_with_channels_are_equivariant(network, dtype):
    net = build(EquivariantNet, network.spec, dtype, residual=False, out_channels=3, gated=True)
    theta = network.weights(2, dtype=dtype)
    assert all(t.shape == (*theta[n].shape, 3) for n, t in net(theta).items())
    g = Permutation.random(network.spec, torch.Generator().manual_seed(0))
    for channel in range(3):
        found = {n: t[..., channel] for n, t in net(g(theta)).items()}
        expected = g({n: t[..., channel] for n, t in net(theta).items()})
        for name in theta:
            torch.testing.assert_close(
                found[name], expected[name], rtol=0, atol=1e-10 if dtype == torch.float64 else 1e-5
            )


@pytest.mark.parametrize("make", EDITORS)
@pytest.mark.parametrize("network", SMALL, ids=lambda n: n.name)
def test_the_wrong_group_is_not_followed(network, make):
    net, theta = build(make, network.spec, scale=0.5), network.weights(2, dtype=torch.float64)
    expected = one_alone(network, net(theta))
    assert (
        max((t - expected[n]).abs().max() for n, t in net(one_alone(network, theta)).items()) > 1e-4
    )


def test_the_flat_editor_claims_nothing_and_is_not_equivariant():
    network = BY_NAME["mlp"]
    assert FlatEdit.equivariance == "none"
    net, theta = build(flat, network.spec, scale=0.5), network.weights(2, dtype=torch.float64)
    with pytest.raises(AssertionError, match="the layer is not equivariant"):
        assert_equivariant(net, network.spec, theta, channel_dims=0)


def flipped(theta):
    """A SIREN with random units of both groups negated, which leaves its function as it is."""
    rng = torch.Generator().manual_seed(3)
    moved = dict(theta)
    for k, units in enumerate((7, 6)):
        signs = (torch.randint(2, (2, units), generator=rng) * 2 - 1).to(theta["layers.0.bias"])
        moved[f"layers.{k}.weight"] = moved[f"layers.{k}.weight"] * signs[..., None]
        moved[f"layers.{k}.bias"] = moved[f"layers.{k}.bias"] * signs
        moved[f"layers.{k + 1}.weight"] = moved[f"layers.{k + 1}.weight"] * signs[:, None]
    return moved


@pytest.mark.parametrize("make", [*EDITORS, flat])
def test_edits_follow_the_signs_of_odd_units_bit_for_bit(make):
    network = BY_NAME["siren"]
    theta = network.weights(2, dtype=torch.float64)
    odd, plain = (build(make, network.spec, scale=0.5, odd=names) for names in (("h1", "h2"), ()))
    moved = odd(flipped(theta))
    assert all(torch.equal(moved[name], t) for name, t in flipped(odd(theta)).items())
    assert not all(
        torch.allclose(plain(flipped(theta))[name], t) for name, t in flipped(plain(theta)).items()
    )


@pytest.mark.parametrize("make", EDITORS)
def test_edits_with_odd_groups_stay_equivariant(make):
    network = BY_NAME["siren"]
    net = build(make, network.spec, scale=0.5, odd=["h1", "h2"])
    assert_equivariant(net, network.spec, network.weights(2, dtype=torch.float64), channel_dims=0)


def test_an_edit_of_the_weights_that_odd_units_leave_is_the_same_function():
    network = BY_NAME["siren"]
    net, theta = (
        build(EquivariantNet, network.spec, scale=0.5, odd=["h1", "h2"]),
        network.weights(2, dtype=torch.float64),
    )
    model, x = network.make().double(), network.inputs().double()
    torch.testing.assert_close(call(model, net(flipped(theta)), x), call(model, net(theta), x))


def test_a_fresh_edit_is_small_and_counters_are_handed_through():
    network = BY_NAME["residual"]
    theta = network.weights(8)
    torch.manual_seed(0)
    net = EquivariantNet(network.spec)
    net.normalizer.fit(
        {n: (t.double().mean(), t.double().std(correction=0)) for n, t in theta.items()}
    )
    edited = net(theta)
    change = torch.cat(
        [(edited[n] - t).flatten() for n, t in theta.items() if t.is_floating_point()]
    )
    assert 0 < change.abs().max() < 0.1
    assert torch.equal(edited["bn1.num_batches_tracked"], theta["bn1.num_batches_tracked"])


@pytest.mark.parametrize("make", [*EDITORS, flat])
def test_edits_train_run_in_bfloat16_and_compile(make):
    network = BY_NAME["gru"]
    net, theta = build(make, network.spec), network.weights(4, dtype=torch.float64)
    sum(t.square().sum() for t in net(theta).values()).backward()
    assert all(
        weight.grad is not None and weight.grad.abs().max() > 0 for weight in net.parameters()
    )
    net, theta = net.float(), network.weights(2)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(theta)
    fast = compiled(net)(theta)
    for name, expected in net(theta).items():
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name], expected, rtol=0.05, atol=0.05)
        torch.testing.assert_close(fast[name], expected)


def test_an_edit_has_one_channel():
    with pytest.raises(
        ValueError, match="an edit has one channel, not out_channels=2; set residual=False"
    ):
        EquivariantNet(BY_NAME["mlp"].spec, out_channels=2)


def test_options_that_contradict_each_other_are_refused():
    spec = BY_NAME["siren"].spec
    with pytest.raises(ValueError, match="only an edit knows what signs do to it"):
        EquivariantNet(spec, odd=["h1"], residual=False)
    for kwargs in ({"heads": 3}, {"heads": 4, "gated": True}):
        with pytest.raises(ValueError, match="must divide hidden=16, and goes without gated=True"):
            EquivariantNet(spec, **kwargs)
    with pytest.raises(ValueError, match="NFNEdit: exact fixed axes need 41,143 weights"):
        NFNEdit(spec, fixed="exact", max_parameters=100)


def permuted_units(g, spec, features):
    """The action on units: those of a family follow their parent, then move among themselves."""
    moved = {}
    for group in spec.declared:
        index, z = g.indices[group.name], features[group.name]
        if group.per is None:
            moved[group.name] = z[:, index]
        else:
            parents = g.indices[group.per]
            moved[group.name] = torch.stack(
                [z[:, p][:, index[i]] for i, p in enumerate(parents)], 1
            )
    return moved


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_features_of_units_move_with_their_units(network, dtype):
    spec = network.spec
    net, theta = build(UnitFeatures, spec, dtype, features=3), network.weights(2, dtype=dtype)
    g = Permutation.random(spec, torch.Generator().manual_seed(0))
    features = net(theta)
    assert list(features) == list(spec.groups)
    for name, expected in permuted_units(g, spec, features).items():
        torch.testing.assert_close(
            net(g(theta))[name], expected, rtol=0, atol=1e-10 if dtype == torch.float64 else 1e-5
        )
    moved = net(one_alone(network, theta))
    assert any((moved[name] - z).abs().max() > 1e-3 for name, z in features.items())


def test_features_of_units_have_the_shapes_of_groups_and_families():
    spec = PermutationSpec.parse("head = 2, dk = 3 per head, one = 1\nq: (head dk) one 5")
    features = build(UnitFeatures, spec, features=4)(
        {"q": torch.randn(7, 6, 1, 5, dtype=torch.float64)}
    )
    assert {name: tuple(z.shape) for name, z in features.items()} == {
        "head": (7, 2, 4),
        "dk": (7, 2, 3, 4),
        "one": (7, 1, 4),
    }


@pytest.mark.parametrize("cls", [EquivariantNet, np_layers, flat, UnitFeatures])
def test_weights_that_do_not_fit_are_named(cls):
    network = BY_NAME["mlp"]
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        build(cls, network.spec, torch.float32)({**network.weights(2), "2.bias": torch.zeros(2, 9)})
