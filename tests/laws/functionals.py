"""The laws of functionals: every network that is a `wsl.nn.Functional` is held to what it declares.

    for law in FUNCTIONAL_LAWS: law(make)        make(spec) builds the network for a specification

``make`` gives three outputs for each member, or weights where it ``gives_weights``. A network of
another package passes the same laws by one row of its own test. Law by law: what is claimed holds,
and holds for nothing else; members, types, seeds and state dicts are what users take for granted.
"""

import pytest
import torch
from functionals import one_alone, randomised
from networks import BY_NAME, NETWORKS

from wsl.nn import Functional
from wsl.symmetry import Permutation, SpecError

FLAGS = ["reads_function", "takes_columns", "gives_weights", "fitted_at_once"]


def built(make, network, dtype=torch.float64, seed=0):
    """In evaluation mode, with random vectors; one that is fitted at once has seen members."""
    torch.manual_seed(seed)
    net = randomised(make(network.spec), dtype)
    if net.fitted_at_once:
        scores = torch.arange(60) % 3 if seed == 0 else torch.arange(60) % 4 % 3
        net.fit(network.weights(60, seed=seed, dtype=dtype), scores)
    return net


def outputs(net, theta):
    """As a dict of tensors, whatever the network gives."""
    found = net(theta)
    return found if net.gives_weights else {"": found}


def moved(net, change, found):
    """What a change of the weights must make of outputs: itself, if they are weights."""
    return change(found) if net.gives_weights else found


def difference(found, expected):
    """The largest of all tensors, relative to the largest output."""
    assert list(found) == list(expected)
    size = max(1.0, *(t.abs().max().item() for t in expected.values()))
    return max((found[n] - t).abs().max().item() for n, t in expected.items()) / size


def follows(net, theta, change):
    """How far f(change(theta)) is from what the claim says it is."""
    expected = moved(net, change, outputs(net, theta))
    return difference(outputs(net, change(theta)), expected)


def says_what_it_is(make):
    """All attributes are there, and an instance says what its class says."""
    net = make(BY_NAME["mlp"].spec)
    assert isinstance(net, Functional)
    assert net.equivariance in ("invariant", "equivariant", "none")
    assert all(type(getattr(net, flag)) is bool for flag in FLAGS)
    assert all(getattr(net, flag) == getattr(type(net), flag) for flag in FLAGS)
    assert net.columns is None
    assert net.normalizer is None or callable(net.normalizer.fit)
    assert net.gives_weights or net.equivariance != "equivariant"


def keeps_its_claim_over_the_market(make):
    """To 1e-10 in float64; a network that claims nothing is told apart from one that could."""
    for network in NETWORKS:
        net, theta = built(make, network), network.weights(2, dtype=torch.float64)
        g = Permutation.random(network.spec, torch.Generator().manual_seed(0))
        assert (follows(net, theta, g) < 1e-10) == (net.equivariance != "none"), network.name


def does_not_follow_the_wrong_group(make):
    """One occurrence of a group that moves alone makes another network of the weights."""
    for name in ("mlp", "cnn", "tied", "attention", "gru"):
        network = BY_NAME[name]
        net, theta = built(make, network), network.weights(2, dtype=torch.float64)
        assert follows(net, theta, lambda t, own=network: one_alone(own, t)) > 1e-9, name


def sees_every_tensor(make):
    """No tensor of the specification is left unread."""
    network = BY_NAME["mlp"]
    net, theta = built(make, network), network.weights(60, seed=1, dtype=torch.float64)
    before = outputs(net, theta)
    for name in theta:
        assert difference(outputs(net, {**theta, name: theta[name].flip(0)}), before) > 1e-6, name


def gives_what_it_says(make):
    """Finite rows of three numbers of its own type, or tensors like those it was given."""
    network = BY_NAME["residual"]
    for dtype in (torch.float32, torch.float64):
        net, theta = built(make, network, dtype), network.weights(2, dtype=dtype)
        expected = theta if net.gives_weights else {"": torch.zeros(2, 3, dtype=dtype)}
        for name, found in outputs(net, theta).items():
            assert found.isfinite().all()
            assert found.shape == expected[name].shape
            assert found.dtype == expected[name].dtype or net.fitted_at_once


def reads_members_alone(make):
    """In evaluation mode no member sees another, and a batch of one is a batch."""
    network = BY_NAME["cnn"]
    net, theta = built(make, network), network.weights(3, dtype=torch.float64)
    together = outputs(net, theta)
    for i in range(3):
        alone = outputs(net, {n: t[i : i + 1] for n, t in theta.items()})
        assert difference(alone, {n: t[i : i + 1] for n, t in together.items()}) < 1e-12


def is_fixed_by_its_seed(make):
    """Equal seeds, equal networks."""
    network = BY_NAME["siren"]
    first, second = built(make, network), built(make, network)
    theta = network.weights(2, dtype=torch.float64)
    assert difference(outputs(first, theta), outputs(second, theta)) == 0


def is_its_state_dict(make):
    """A network of another seed that loads it gives the same bits; before, it gives others."""
    network = BY_NAME["siren"]
    first, second = built(make, network), built(make, network, seed=1)
    if first.normalizer is not None:
        first.normalizer.fit(dict.fromkeys(network.spec.axes, (0.5, 2.0)))
    theta = network.weights(60, seed=1, dtype=torch.float64)
    assert difference(outputs(first, theta), outputs(second, theta)) > 0
    second.load_state_dict(first.state_dict())
    assert difference(outputs(first, theta), outputs(second, theta)) == 0


def trains_every_weight(make):
    """A gradient that is not zero for all that is learned."""
    network = BY_NAME["gru"]
    net = built(make, network)
    found = outputs(net, network.weights(4, dtype=torch.float64)).values()
    if not net.fitted_at_once:
        sum(t.square().sum() for t in found).backward()
    silent = [n for n, w in net.named_parameters() if w.grad is None or not w.grad.abs().max()]
    assert silent == []
    assert net.fitted_at_once == (not list(net.parameters()))


def names_weights_that_do_not_fit(make):
    """The error says which tensor, which axis and what size."""
    network = BY_NAME["mlp"]
    net = built(make, network)
    theta = {**network.weights(2, dtype=torch.float64), "2.bias": torch.zeros(2, 9)}
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        net(theta)


FUNCTIONAL_LAWS = [
    says_what_it_is,
    keeps_its_claim_over_the_market,
    does_not_follow_the_wrong_group,
    sees_every_tensor,
    gives_what_it_says,
    reads_members_alone,
    is_fixed_by_its_seed,
    is_its_state_dict,
    trains_every_weight,
    names_weights_that_do_not_fit,
]
