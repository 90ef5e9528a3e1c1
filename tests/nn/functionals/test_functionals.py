"""Networks on weights: what their class attribute claims holds over the market; they learn;
statistics are what they say.
"""

import itertools

import pytest
import torch
from functionals import (
    DTYPES,
    MARKET,
    assert_compiles,
    assert_reads_and_is_invariant,
    assert_sees_one_alone,
    assert_trains_and_casts,
)
from networks import BY_NAME, NETWORKS

from wsl.nn import (
    NFN,
    NFT,
    UNF,
    DWSNet,
    FlatMLP,
    GraphMetanetwork,
    InputNormalizer,
    InvariantPool,
    ScaleGMN,
    Standardize,
    StatNet,
    WeightTokens,
    settled,
    weight_statistics,
)
from wsl.nn.engine.layout import BlockLayout
from wsl.nn.functionals.set_attention import AttentionPool, UnitAttention, units
from wsl.params import call
from wsl.symmetry import Permutation, PermutationSpec, SpecError, canonical_signs
from wsl.testing import act, assert_invariant

TYPES = [UNF, DWSNet, StatNet, FlatMLP]
INVARIANT = [cls for cls in TYPES if cls.equivariance == "invariant"]


def attending(network):
    return DWSNet(
        network.spec, hidden=4, layers=2, blocks="attention", block_heads=2, out_features=3
    )


def build(cls, network, *, dtype=torch.float64, **kwargs):
    """A network whose weights, biases too, are random."""
    torch.manual_seed(0)
    net = cls(network.spec, **{"hidden": 4, "out_features": 3, **kwargs}).to(dtype).eval()
    for weight in net.parameters():
        if weight.dim() == 1:
            weight.data += 0.1 * torch.randn_like(weight)
    return net


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cls", INVARIANT)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_invariant_networks_are_invariant_over_the_market(network, cls, dtype):
    net = build(cls, network, dtype=dtype)
    theta = network.weights(2, dtype=dtype)
    assert net(theta).shape == (2, 3)
    assert_invariant(net, network.spec, theta, trials=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_attention_blocks_are_invariant_over_the_market(network, dtype):
    assert_reads_and_is_invariant(attending, network, dtype)


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_attention_blocks_see_when_one_occurrence_moves_alone(network):
    assert_sees_one_alone(attending, network)


def test_attention_blocks_train_and_compile():
    assert_trains_and_casts(attending, BY_NAME["mlp"])
    assert_compiles(attending, BY_NAME["mlp_without_bias"])


def test_a_block_is_attention_between_all_units_of_a_group():
    """Against a literal sum over the units of both groups, one head; what units know and say is the
    engine's.
    """
    spaces = BlockLayout(BY_NAME["mlp"].spec).spaces
    torch.manual_seed(0)
    block = UnitAttention(spaces, [2] * len(spaces), [3] * len(spaces), hidden=4, heads=1).double()
    pieces = [
        torch.randn(*(axis.size for axis in space), 1, 2, dtype=torch.float64) for space in spaces
    ]
    slow = []
    for x, mix in zip(block.enter(pieces), block.mix, strict=True):
        rows = [unit[0].split(4) for unit in x]
        for q, _, _ in rows:
            shares = [(q @ k / 4**0.5).exp() for _, k, _ in rows]
            o = q + sum(share * v for share, (_, _, v) in zip(shares, rows, strict=True)) / sum(
                shares
            )
            slow.append(o + mix(o).relu())
    groups = [torch.stack(part).unsqueeze(1) for part in (slow[:7], slow[7:])]
    assert [len(group) for group in groups] == [axis.size for (axis,) in block.units]
    for found, expected in zip(block(pieces), block.leave(groups), strict=True):
        torch.testing.assert_close(found, expected)


def test_units_of_a_family_attend_as_pairs_with_their_parents():
    found = units(BlockLayout(BY_NAME["attention"].spec).spaces)
    assert [space[-1].group for space in found] == list(BY_NAME["attention"].spec.groups)
    family = next(space for space in found if len(space) == 2)
    assert family[1].parent == 0


def test_wrong_blocks_and_heads_are_refused():
    spec = BY_NAME["mlp"].spec
    with pytest.raises(ValueError, match="DWSNet: blocks='sab' must be 'linear' or 'attention'"):
        DWSNet(spec, blocks="sab")
    with pytest.raises(ValueError, match="UnitAttention: hidden=6 is not a multiple of heads=4"):
        DWSNet(spec, hidden=6, blocks="attention")


TWINS = PermutationSpec.parse(
    "a = 4, b = 4\nfirst.weight: a 3\nsecond.weight: b 3\nfirst.bias: a\nsecond.bias: b"
)
"""Two layers that nothing tells apart but their names: neither wiring nor sizes."""


@pytest.mark.parametrize(
    "make",
    [
        *TYPES,
        NFN,
        NFT,
        ScaleGMN,
        GraphMetanetwork,
        WeightTokens,
        lambda spec, **kw: DWSNet(spec, blocks="attention", **kw),
    ],
)
def test_functionals_know_which_layer_a_weight_is_of(make):
    rng = torch.Generator().manual_seed(0)
    theta = {
        name: torch.randn(2, *shape, generator=rng, dtype=torch.float64)
        for name, shape in TWINS.shapes.items()
    }
    swapped = {
        name: theta[name.replace(*pair)]
        for pair in (("first", "second"), ("second", "first"))
        for name in theta
        if name.startswith(pair[0])
    }
    torch.manual_seed(0)
    net = make(TWINS, hidden=8, out_features=3).double().eval()
    assert (net({name: swapped[name] for name in theta}) - net(theta)).abs().max() > 1e-6


@pytest.mark.parametrize("cls", [UNF, DWSNet])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_equivariant_engines_see_when_one_occurrence_moves_alone(network, cls):
    """Statistics of a tensor cannot see it; a functional that could not would not read the
    wiring.
    """
    net, theta = build(cls, network), network.weights(2, dtype=torch.float64)
    alone = next(
        next(network.spec.occurrences(g))
        for g in network.spec.groups
        if len(list(network.spec.occurrences(g))) > 1
    )
    index = torch.randperm(
        theta[alone.tensor].shape[1 + alone.axis], generator=torch.Generator().manual_seed(0)
    )
    moved = {**theta, alone.tensor: theta[alone.tensor].index_select(1 + alone.axis, index)}
    assert (net(moved) - net(theta)).abs().max() > 1e-5
    torch.testing.assert_close(weight_statistics(moved), weight_statistics(theta))


def test_flat_networks_claim_nothing_and_are_not_invariant():
    network = BY_NAME["mlp"]
    assert FlatMLP.equivariance == "none"
    with pytest.raises(AssertionError, match="the network is not invariant"):
        assert_invariant(
            build(FlatMLP, network), network.spec, network.weights(2, dtype=torch.float64)
        )


def test_unf_learns_what_the_statistics_of_tensors_cannot_show():
    """Sum over hidden units of incoming bias times outgoing weight: the coupling of two tensors
    along one axis.
    """
    network = BY_NAME["mlp_without_bias"]
    theta = network.weights(256)
    target = (
        torch.einsum("bhi,boh->b", theta["0.weight"], theta["2.weight"]).div(140**0.5).unsqueeze(1)
    )
    errors = {}
    for cls in (UNF, StatNet):
        net = build(cls, network, dtype=torch.float32, hidden=16, out_features=1)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for step in range(30):
            rows = torch.randperm(192, generator=torch.Generator().manual_seed(step))[:64]
            loss = (net({n: t[rows] for n, t in theta.items()}) - target[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        held_out = {n: t[192:] for n, t in theta.items()}
        errors[cls] = ((net(held_out) - target[192:]).square().mean() / target[192:].var()).item()
    assert errors[UNF] < 0.5 < errors[StatNet]


def test_dwsnet_refuses_large_inputs_and_points_to_unf():
    with pytest.raises(
        ValueError, match=r"need 2,784 weights .* more than max_parameters=2,000; use UNF"
    ):
        DWSNet(BY_NAME["siren"].spec, hidden=4, max_parameters=2_000)


def test_weight_statistics_are_mean_variance_and_quantiles():
    theta = BY_NAME["cnn"].weights(3, dtype=torch.float64)
    found = weight_statistics(theta).view(3, len(theta), 7)
    for i, tensor in enumerate(theta.values()):
        flat = tensor.flatten(1)
        quantiles = flat.quantile(torch.tensor([0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64), 1).T
        torch.testing.assert_close(
            found[:, i],
            torch.cat([flat.mean(1, True), flat.var(1, correction=0, keepdim=True), quantiles], 1),
        )


def test_normalizer_standardises_each_tensor_and_casts_counters():
    network = BY_NAME["residual"]
    theta = network.weights(50)
    statistics = {n: (t.double().mean(), t.double().std(correction=0)) for n, t in theta.items()}
    normalizer = InputNormalizer(network.spec).fit(statistics)
    for name, tensor in normalizer(theta).items():
        assert tensor.dtype == torch.float32
        assert abs(tensor.mean()) < 1e-5
        assert tensor.std(correction=0) == pytest.approx(
            0 if theta[name].dtype == torch.long else 1, abs=1e-4
        )


def flip(theta, units):
    """Negate the first hidden units of a SIREN, and what leaves them."""
    signs = torch.ones(7, dtype=torch.float64)
    signs[units] = -1
    flipped = {
        "layers.0.weight": theta["layers.0.weight"] * signs[:, None],
        "layers.0.bias": theta["layers.0.bias"] * signs,
        "layers.1.weight": theta["layers.1.weight"] * signs,
    }
    return {**theta, **flipped}


@pytest.mark.parametrize("cls", TYPES)
def test_odd_groups_make_a_network_invariant_to_sign_flips(cls):
    network = BY_NAME["siren"]
    theta = network.weights(2, dtype=torch.float64)
    net, plain = build(cls, network, odd=("h1", "h2")), build(cls, network)
    assert torch.equal(net(flip(theta, [0, 3])), net(theta))
    assert not torch.allclose(plain(flip(theta, [0, 3])), plain(theta))
    if cls in INVARIANT:
        assert_invariant(net, network.spec, theta)


def test_canonical_signs_keep_the_function_and_leave_no_negative_bias():
    network = BY_NAME["siren"]
    theta, x = network.weights(dtype=torch.float64), network.inputs().double()
    canonical = canonical_signs(network.spec, {n: t[None] for n, t in theta.items()}, ["h1", "h2"])
    assert all(canonical[name].min() >= 0 for name in ("layers.0.bias", "layers.1.bias"))
    assert not torch.equal(canonical["layers.1.weight"][0], theta["layers.1.weight"])
    model = network.make().double()
    torch.testing.assert_close(
        call(model, {n: t[0] for n, t in canonical.items()}, x), call(model, theta, x)
    )


def test_signs_follow_a_group_through_products_and_concatenations():
    spec = PermutationSpec.parse("a = 2, b = 3\nbias: a\nw: b+a (a 2)\nu: b")
    theta = {"bias": torch.tensor([[-1.0, 1.0]]), "w": torch.ones(1, 5, 4), "u": torch.ones(1, 3)}
    moved = canonical_signs(spec, theta, ["a"])
    assert moved["bias"].tolist() == [[1, 1]]
    assert moved["w"][0, :, 0].tolist() == [-1, -1, -1, 1, -1]
    assert moved["w"][0, 0].tolist() == [-1, -1, 1, 1]


def test_odd_groups_need_a_bias_and_the_normaliser():
    with pytest.raises(SpecError, match="odd group 'h1': no tensor has it as its only axis"):
        UNF(BY_NAME["mlp_without_bias"].spec, odd=["h1"])
    with pytest.raises(ValueError, match="leave normalize=True"):
        UNF(BY_NAME["siren"].spec, odd=["h1"], normalize=False)


def test_gated_layers_are_invariant_too():
    network = BY_NAME["attention"]
    assert_invariant(
        build(UNF, network, gated=True), network.spec, network.weights(2, dtype=torch.float64)
    )


def test_normalizer_is_part_of_the_state_dict():
    network = BY_NAME["siren"]
    fitted = build(UNF, network)
    fitted.normalizer.fit(dict.fromkeys(network.spec.axes, (0.5, 2.0)))
    other = build(UNF, network)
    other.load_state_dict(fitted.state_dict())
    theta = network.weights(2, dtype=torch.float64)
    assert torch.equal(other(theta), fitted(theta))
    assert not torch.equal(build(UNF, network)(theta), fitted(theta))


def test_normalizer_centres_what_canonical_signs_have_moved():
    network = BY_NAME["siren"]
    theta = {n: t + 0.5 for n, t in network.weights(400).items()}
    normalizer = InputNormalizer(network.spec, odd=["h1", "h2"]).fit(
        {n: (t.mean(), t.std()) for n, t in theta.items()}
    )
    for name, tensor in normalizer(theta).items():
        assert abs(tensor.mean()) < 0.5, name
        assert tensor.std() == pytest.approx(1, abs=0.2), name


@pytest.mark.parametrize("cls", INVARIANT)
def test_a_batch_of_one_can_be_trained_on(cls):
    network = BY_NAME["siren"]
    net = build(cls, network).train()
    before = net(network.weights(1, dtype=torch.float64))
    assert before.isfinite().all()
    torch.testing.assert_close(before, net.eval()(network.weights(1, dtype=torch.float64)))


def test_heads_standardise_features_over_the_training_batch():
    layer = Standardize(3)
    z = 5 + 2 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    y = layer(z)
    torch.testing.assert_close(
        (y.mean(0), y.std(0, correction=0)), (torch.zeros(3), torch.ones(3)), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(layer.mean, 0.1 * z.mean(0))
    assert torch.equal(layer.eval()(z)[:1], layer(z[:1]))


def test_settled_heads_average_over_members_in_evaluation_mode_and_forget_earlier_ones():
    layer = Standardize(3).eval()
    z = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 2 + 5
    for _ in range(2):
        with settled(layer):
            layer(z[:30])
            layer(z[30:])
            layer(z[:1])
        torch.testing.assert_close(layer.mean, z.mean(0))
        torch.testing.assert_close(layer.variance, 0.75 * z[:30].var(0) + 0.25 * z[30:].var(0))
    before = layer.mean.clone()
    layer(z[:30])
    assert torch.equal(layer.mean, before)


def test_normalizer_refuses_missing_and_infinite_statistics():
    spec = BY_NAME["siren"].spec
    normalizer = InputNormalizer(spec)
    with pytest.raises(ValueError, match=r"statistics lack 'layers\.0\.weight'"):
        normalizer.fit({})
    with pytest.raises(ValueError, match=r"statistics of 'layers\.1\.bias' are not finite"):
        normalizer.fit(
            {name: (0.0, float("nan") if name == "layers.1.bias" else 1.0) for name in spec.axes}
        )


def test_unf_without_normaliser_is_unf_with_the_identity():
    network = BY_NAME["mlp"]
    theta = network.weights(2, dtype=torch.float64)
    bare = build(UNF, network, normalize=False)
    assert bare.normalizer is None
    torch.testing.assert_close(bare(theta), build(UNF, network)(theta))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_pooling_by_attention_is_invariant(network, dtype):
    net, theta = build(DWSNet, network, dtype=dtype, heads=2), network.weights(2, dtype=dtype)
    assert_invariant(net, network.spec, theta, trials=2)


def test_pooling_by_attention_is_a_softmax_over_positions_and_the_mean_without_queries():
    layout = BlockLayout(BY_NAME["mlp"].spec)
    attention = AttentionPool(layout.spaces, [3] * len(layout.spaces), heads=2).double()
    pieces = [
        torch.randn(*(axis.size for axis in space), 5, 3, dtype=torch.float64)
        for space in layout.spaces
    ]
    slow = []
    for i, query in zip(attention.wide, attention.queries, strict=True):
        rows = pieces[i].reshape(-1, 5, 3)
        for b, h in itertools.product(range(5), range(2)):
            share = torch.stack([(row[b] * query.weight[h]).sum() for row in rows]).exp()
            slow.append(sum(s * row[b] for s, row in zip(share, rows, strict=True)) / share.sum())
    expected = torch.stack(slow).view(len(attention.wide), 5, 6).transpose(0, 1).reshape(5, -1)
    torch.testing.assert_close(attention(pieces), expected)
    for query in attention.queries:
        query.weight.data.zero_()
    means = torch.cat([pieces[i].flatten(0, -3).mean(0).repeat(1, 2) for i in attention.wide], 1)
    torch.testing.assert_close(attention(pieces), means)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_invariant_pool_is_invariant(network):
    layer = InvariantPool(network.spec, 2)
    theta = {
        n: torch.randn((2, *shape, 2), dtype=torch.float64)
        for n, shape in network.spec.shapes.items()
    }
    assert layer(theta).shape == (2, layer.features)
    g = Permutation.random(network.spec, torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(act(g, theta)), layer(theta))


def test_invariant_pool_has_the_trace_of_a_tied_square():
    network = BY_NAME["tied"]
    theta = {n: torch.randn((2, *shape, 1)) for n, shape in network.spec.shapes.items()}
    pooled = InvariantPool(network.spec, 1, maximum=False)(theta)
    trace = theta["mix.weight"][..., 0].diagonal(dim1=1, dim2=2).mean(-1)
    assert any(torch.allclose(pooled[:, i], trace) for i in range(pooled.shape[1]))
