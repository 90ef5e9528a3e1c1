"""`NFN` and low-rank layers: invariant on the market, with the published numbers of maps."""

import math

import pytest
import torch
from functionals import (
    DTYPES,
    MARKET,
    assert_compiles,
    assert_reads_and_is_invariant,
    assert_reads_up_to_sign,
    assert_sees_one_alone,
    assert_trains_and_casts,
)
from networks import BY_NAME, DEEP, NETWORKS
from test_basis import mlp_spec
from test_equivariant_linear import features, random_layer

from wsl.nn import NFN, EquivariantLinear
from wsl.nn.inputs.fourier import WeightFeatures
from wsl.symmetry import PermutationSpec
from wsl.testing import assert_equivariant

KINDS = {
    "np": {"fixed": "encoded"},
    "np with features": {"fixed": "encoded", "fourier": 3, "positions": 2},
    "hnp": {"fixed": "exact"},
    "hnp of rank 2": {"fixed": "exact", "rank": 2, "fourier": 2},
}


def maker(kind):
    return lambda network: NFN(network.spec, hidden=3, layers=2, out_features=3, **KINDS[kind])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_nfn_is_invariant_over_the_market(network, kind, dtype):
    if network in DEEP and (kind == "hnp" or dtype == torch.float32):
        pytest.skip("exact 3x3 kernels of 21 convolutions, or a second type, take seconds")
    assert_reads_and_is_invariant(maker(kind), network, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_nfn_sees_when_one_occurrence_moves_alone(network, kind):
    assert_sees_one_alone(maker(kind), network)


@pytest.mark.parametrize("kind", KINDS)
def test_nfn_trains(kind):
    assert_trains_and_casts(maker(kind), BY_NAME["mlp"])


def test_nfn_compiles():
    assert_compiles(maker("np with features"), BY_NAME["mlp_without_bias"])


def inner_weights(spec, **kwargs):
    """Weights and biases of the maps of a layer with one channel in and out, tables of positions
    left out.
    """
    layer = NFN(spec, hidden=1, layers=2, **kwargs).layers[1]
    return sum(p.numel() for name, p in layer.map.named_parameters() if "weight" in name), sum(
        p.numel() for name, p in layer.map.named_parameters() if "bias" in name
    )


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_np_layers_have_the_published_number_of_maps(depth):
    assert inner_weights(mlp_spec(*[4] * (depth + 1)), fixed="encoded") == (
        4 * depth**2 + 10 * depth - 4,
        2 * depth,
    )


def test_hnp_layers_have_the_published_number_of_maps():
    assert inner_weights(mlp_spec(2, 32, 32, 1), fixed="exact") == (75, 7)
    assert inner_weights(PermutationSpec.parse("h = 5\nw: h h"), fixed="exact") == (15, 2)


def test_hnp_refuses_large_inputs_until_a_rank_is_given():
    spec = mlp_spec(784, 16, 10)
    with pytest.raises(
        ValueError, match=r"NFN: exact fixed axes need .* more than max_parameters=100,000; use UNF"
    ):
        NFN(spec, fixed="exact", hidden=4, max_parameters=100_000)
    NFN(spec, fixed="exact", rank=2, hidden=4, max_parameters=100_000)


def test_features_are_value_waves_of_it_and_places_on_fixed_axes():
    layer = WeightFeatures(BY_NAME["mlp"].spec, fourier=2, positions=1).double()
    theta = BY_NAME["mlp"].weights(1, dtype=torch.float64)
    found = layer(theta)["4.weight"]
    assert found.shape == (1, 4, 6, layer.channels)
    x, tensor, output = (
        theta["4.weight"],
        2 * 4 / 5 - 1,
        torch.linspace(-1, 1, 4, dtype=torch.float64),
    )
    angle = 2 * math.pi * x[..., None] * layer.frequencies
    torch.testing.assert_close(found[..., 1:5], torch.cat([angle.cos(), angle.sin()], -1))
    torch.testing.assert_close(found[..., 5], torch.full_like(x, tensor))
    torch.testing.assert_close(found[..., 8], output[None, :, None].expand_as(x))
    torch.testing.assert_close(found[..., 9], (math.pi * output).cos()[None, :, None].expand_as(x))


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_layers_of_low_rank_are_equivariant(network):
    layer = random_layer(network.spec, 2, 1, rank=1)
    assert_equivariant(layer, network.spec, features(network.spec, 2), trials=1)


def test_a_rank_above_all_fixed_sizes_is_the_exact_layer():
    spec = BY_NAME["mlp"].spec
    exact, full, low = (EquivariantLinear(spec, 1, 1, rank=rank) for rank in (None, 5, 2))
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in (exact, full, low)]
    assert sizes[0] == sizes[1] > sizes[2]


def test_a_rank_belongs_to_exact_axes():
    with pytest.raises(
        ValueError,
        match="rank=2 with fixed='encoded': a rank is at least 1 and belongs to fixed='exact'",
    ):
        EquivariantLinear(BY_NAME["mlp"].spec, 1, 1, fixed="encoded", rank=2)
    with pytest.raises(ValueError, match="rank=0"):
        EquivariantLinear(BY_NAME["mlp"].spec, 1, 1, rank=0)


def test_a_compiled_engine_is_one_graph():
    spec = BY_NAME["tied"].spec
    layer, x = (
        random_layer(spec, 1, 2, dtype=torch.float32, rank=2),
        features(spec, 1, dtype=torch.float32),
    )
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


@pytest.mark.parametrize("fixed", ["exact", "encoded"])
@pytest.mark.parametrize("name", ["attention", "cnn", "siren"])
def test_the_engine_runs_under_bfloat16_autocast(name, fixed):
    spec = BY_NAME[name].spec
    layer, x = (
        random_layer(spec, 2, 2, dtype=torch.float32, fixed=fixed),
        features(spec, 2, dtype=torch.float32),
    )
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(x)
    for name, exact in layer(x).items():
        assert (rough[name].float() - exact).abs().max() < 0.05 * (1 + exact.abs().max()), name
    sum(t.float().square().sum() for t in rough.values()).backward()
    assert all(
        w.grad is not None and w.grad.dtype == torch.float32 and w.grad.isfinite().all()
        for w in layer.parameters()
    )


def test_groups_of_odd_units_are_read_up_to_sign():
    assert_reads_up_to_sign(NFN, hidden=3)
