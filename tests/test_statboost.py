"""`StatBoost`: trees on statistics of tensors, fitted at once."""

import pytest
import torch
from functionals import MARKET
from networks import BY_NAME

from wsl.nn import StatBoost
from wsl.symmetry import Permutation, SpecError


def fitted(network, targets, **kwargs):
    theta = network.weights(len(targets), seed=1)
    return StatBoost(network.spec, iterations=5, leaves=4, **kwargs).fit(theta, targets)


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_boosted_statistics_are_invariant_over_the_market(network):
    """Bit for bit but where rounding of a mean crosses a threshold of a tree; float64 statistics keep clear of them."""
    net = fitted(network, torch.rand(60, generator=torch.Generator().manual_seed(0))).double()
    theta = network.weights(4, dtype=torch.float64)
    moved = Permutation.random(network.spec, torch.Generator().manual_seed(0))(theta)
    assert net.equivariance == "invariant"
    torch.testing.assert_close(net(moved), net(theta))


def test_trees_learn_a_score_that_the_statistics_show():
    network = BY_NAME["siren"]
    theta = network.weights(300)
    scores = theta["layers.1.weight"].flatten(1).std(1) / 2
    first, last = ({n: t[part] for n, t in theta.items()} for part in (slice(200), slice(200, 300)))
    net = StatBoost(network.spec, iterations=50).fit(first, scores[:200])
    outputs = net(last)
    assert outputs.shape == (100, 1)
    torch.testing.assert_close(outputs.sigmoid()[:, 0].double(), net.predict(last), atol=1e-5, rtol=0)
    error = (net.predict(last) - scores[200:]).square().mean() / scores[200:].var()
    assert error < 0.4


def test_trees_classify_and_leave_unseen_labels_unlikely():
    network = BY_NAME["mlp"]
    labels = torch.arange(80) % 2 * 2
    theta = {n: t + labels.view(-1, *[1] * (t.dim() - 1)) for n, t in network.weights(80).items()}
    net = StatBoost(network.spec, out_features=3, iterations=5).fit(theta, labels)
    assert torch.equal(net.predict(theta), labels)
    outputs = net(theta)
    assert torch.equal(outputs.argmax(1), labels)
    assert outputs[:, 1].max() < -10


def test_the_same_seed_grows_the_same_trees():
    network = BY_NAME["mlp"]
    targets, theta = torch.rand(40, generator=torch.Generator().manual_seed(0)), network.weights(5)
    assert torch.equal(fitted(network, targets)(theta), fitted(network, targets)(theta))


def test_what_is_not_fitted_or_does_not_fit_is_named():
    network = BY_NAME["mlp"]
    with pytest.raises(ValueError, match="StatBoost has no trees, which a saved network does not hold; call fit"):
        StatBoost(network.spec)(network.weights(2))
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        fitted(network, torch.rand(40))({**network.weights(2), "2.bias": torch.zeros(2, 9)})
