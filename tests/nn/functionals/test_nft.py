"""`NFT` and `WeightTokens`: attention over weights, with the symmetry and honestly without it."""

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
    build,
)
from networks import BY_NAME

from wsl.nn import NFT, WeightTokens
from wsl.nn.engine.basis import GroupAxis
from wsl.nn.functionals.nft import AttentionBlock, Projection
from wsl.nn.functionals.trunk import pack
from wsl.symmetry import PermutationSpec, SpecError
from wsl.testing import assert_invariant


def nft(network):
    return NFT(network.spec, hidden=4, layers=2, heads=2, out_features=3)


def tokens(network):
    return WeightTokens(
        network.spec, token=4, hidden=8, layers=1, heads=2, frequencies=2, out_features=3
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_attention_along_units_is_invariant_over_the_market(network, dtype):
    assert_reads_and_is_invariant(nft, network, dtype)


@pytest.mark.parametrize("make", [nft, tokens])
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_attention_sees_when_one_occurrence_moves_alone(network, make):
    assert_sees_one_alone(make, network)


@pytest.mark.parametrize("make", [nft, tokens])
def test_attention_trains(make):
    assert_trains_and_casts(make, BY_NAME["mlp"])


@pytest.mark.parametrize("make", [nft, tokens])
def test_attention_compiles(make):
    assert_compiles(make, BY_NAME["mlp_without_bias"])


def test_a_layer_is_attention_over_all_weights_of_a_unit():
    """Against a literal sum: one weight (2, 3) and one bias (2,) on one group, the second axis
    alone on another.
    """
    spaces = ((GroupAxis("a", 2), GroupAxis("b", 3)), (GroupAxis("a", 2),))
    torch.manual_seed(0)
    layer = AttentionBlock(spaces, 4, 1).double()
    weight, bias = (
        torch.randn(2, 3, 1, 4, dtype=torch.float64),
        torch.randn(2, 1, 4, dtype=torch.float64),
    )
    found = layer.along_axes(pack([weight, bias]))

    def attend(own, q, others):
        shares = [(q * k).sum() for k, _ in others]
        return own.out(sum(s * v for s, (_, v) in zip(shares, others, strict=True)) / sum(shares))

    def parts(own: Projection, x):
        return [t.flatten() for t in own(x.view(1, 1, 1, 4))]

    first, second = layer.axes
    for i in range(2):
        at_a = [parts(first, weight[i, j])[1:] for j in range(3)] + [parts(first, bias[i])[1:]]
        torch.testing.assert_close(found[6 + i, 0], attend(first, parts(first, bias[i])[0], at_a))
        for j in range(3):
            at_b = [parts(second, weight[k, j])[1:] for k in range(2)]
            expected = attend(first, parts(first, weight[i, j])[0], at_a) + attend(
                second, parts(second, weight[i, j])[0], at_b
            )
            torch.testing.assert_close(found[3 * i + j, 0], expected)


def test_tokens_claim_nothing_and_are_not_invariant():
    network = BY_NAME["mlp"]
    assert WeightTokens.equivariance == "none"
    with pytest.raises(AssertionError, match="the network is not invariant"):
        assert_invariant(
            build(tokens, network), network.spec, network.weights(2, dtype=torch.float64)
        )


def test_tokens_hold_every_weight_once_and_no_row_shares_one():
    net = tokens(BY_NAME["cnn"])
    count = sum(shape.numel() for shape in BY_NAME["cnn"].spec.shapes.values())
    held = net.entries[net.entries < count]
    assert torch.equal(held.sort().values, torch.arange(count))
    spec = PermutationSpec.parse("h = 3\nw: h 5\nb: h")
    net = WeightTokens(spec, token=4, hidden=4)
    assert net.entries.tolist() == [
        [0, 1, 2, 3],
        [4, 18, 18, 18],
        [5, 6, 7, 8],
        [9, 18, 18, 18],
        [10, 11, 12, 13],
        [14, 18, 18, 18],
        [15, 16, 17, 18],
    ]
    assert net.tensors.tolist() == [0] * 6 + [1]


def test_too_many_tokens_and_wrong_heads_are_refused():
    spec = BY_NAME["cnn"].spec
    with pytest.raises(
        ValueError,
        match="cuts the weights into 112 tokens, more than max_tokens=100; take longer tokens",
    ):
        WeightTokens(spec, token=8, max_tokens=100)
    for cls in (NFT, WeightTokens):
        with pytest.raises(
            ValueError, match=f"{cls.__name__}: hidden=6 is not a multiple of heads=4"
        ):
            cls(spec, hidden=6)


@pytest.mark.parametrize("make", [nft, tokens])
def test_weights_that_do_not_fit_are_named(make):
    network = BY_NAME["mlp"]
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        build(make, network, torch.float32)({**network.weights(2), "2.bias": torch.zeros(2, 9)})


@pytest.mark.parametrize("cls", [NFT, WeightTokens])
def test_groups_of_odd_units_are_read_up_to_sign(cls):
    assert_reads_up_to_sign(cls, hidden=4)
