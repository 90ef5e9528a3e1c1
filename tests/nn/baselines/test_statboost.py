"""`StatBoost`: trees on statistics of tensors, fitted at once."""

import numpy as np
import pytest
import torch
from functionals import MARKET
from networks import BY_NAME
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from wsl.nn import StatBoost
from wsl.nn.baselines.trees import Trees
from wsl.symmetry import Permutation, SpecError


def fitted(network, targets, **kwargs):
    theta = network.weights(len(targets), seed=1)
    return StatBoost(network.spec, iterations=5, leaves=4, **kwargs).fit(theta, targets)


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_boosted_statistics_are_invariant_over_the_market(network):
    """Bit for bit but where rounding of a mean crosses a threshold of a tree; float64 statistics
    keep clear of them.
    """
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
    torch.testing.assert_close(
        outputs.sigmoid()[:, 0].double(), net.predict(last), atol=1e-5, rtol=0
    )
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
    with pytest.raises(
        ValueError, match="StatBoost has no trees yet; call fit, or wsl train, first"
    ):
        StatBoost(network.spec)(network.weights(2))
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        fitted(network, torch.rand(40))({**network.weights(2), "2.bias": torch.zeros(2, 9)})


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_trees_give_what_scikit_learn_gives(classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    kind, y = (
        (HistGradientBoostingRegressor, x[:, 0] * x[:, 1])
        if classes == 1
        else (HistGradientBoostingClassifier, None)
    )
    y = y if classes == 1 else np.digitize(x[:, 0] + x[:, 1], np.linspace(-1, 1, classes - 1))
    model = kind(max_iter=7, max_leaf_nodes=6, random_state=0).fit(x[:200], y[:200])
    expected = torch.from_numpy(
        model.predict(x) if classes == 1 else model.decision_function(x)
    ).view(len(x), -1)
    trees = Trees(9, expected.shape[1], 6).grown(model, range(expected.shape[1]))
    torch.testing.assert_close(trees(torch.from_numpy(x)), expected)
    assert expected.std() > 0.1


def test_growing_again_forgets_the_first_trees():
    network = BY_NAME["mlp"]
    theta, targets = network.weights(60), torch.rand(60, generator=torch.Generator().manual_seed(0))
    twice, once = StatBoost(network.spec, iterations=5), StatBoost(network.spec, iterations=5)
    assert torch.equal(
        twice.fit(theta, targets.flip(0)).fit(theta, targets)(theta),
        once.fit(theta, targets)(theta),
    )


def test_a_state_dict_holds_the_trees():
    network = BY_NAME["mlp"]
    theta, net = network.weights(4), fitted(network, torch.arange(60) % 3, out_features=3)
    again = StatBoost(network.spec, iterations=5, leaves=4, out_features=3)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(theta), net(theta))
