"""The laws that every functional is held to, by what its class attribute claims, on the whole
market.
"""

import warnings

import torch
from networks import BY_NAME, DEEP, NETWORKS

from wsl.testing import assert_invariant

MARKET = [*NETWORKS, *DEEP]
DTYPES = [torch.float32, torch.float64]


def randomised(net, dtype=torch.float64):
    """In evaluation mode, with vectors too (biases, scales) away from where they start."""
    rng = torch.Generator().manual_seed(1)
    net = net.to(dtype).eval()
    for weight in net.parameters():
        if weight.dim() == 1:
            weight.data += 0.1 * torch.randn(weight.shape, generator=rng, dtype=dtype)
    return net


def build(make, network, dtype=torch.float64):
    """``make(network)`` under a fixed seed, randomised."""
    torch.manual_seed(0)
    return randomised(make(network), dtype)


def assert_reads_and_is_invariant(make, network, dtype):
    """A row of finite outputs for each member, the same for equivalent weights, to 1e-10 in float64
    and 1e-5 in float32.
    """
    net, theta = build(make, network, dtype), network.weights(2, dtype=dtype)
    assert net.equivariance == "invariant"
    outputs = net(theta)
    assert outputs.shape == (2, 3)
    assert outputs.dtype == dtype
    assert outputs.isfinite().all()
    assert (outputs[0] - outputs[1]).abs().max() > 1e-6
    assert_invariant(net, network.spec, theta, trials=2)


def one_alone(network, theta):
    """Weights with one occurrence of a group moved and its others left: in general another
    function.
    """
    spec = network.spec
    alone = next(
        next(spec.occurrences(g)) for g in spec.groups if len(list(spec.occurrences(g))) > 1
    )
    index = torch.arange(theta[alone.tensor].shape[1 + alone.axis]).roll(1)
    return {**theta, alone.tensor: theta[alone.tensor].index_select(1 + alone.axis, index)}


def assert_sees_one_alone(make, network):
    """The wrong group changes the outputs."""
    net, theta = build(make, network), network.weights(2, dtype=torch.float64)
    assert (net(one_alone(network, theta)) - net(theta)).abs().max() > 1e-6


def assert_trains_and_casts(make, network):
    """Every weight gets a gradient, a batch of one is a batch, bfloat16 autocast and a compiled
    graph give the same.
    """
    net, theta = build(make, network), network.weights(4, dtype=torch.float64)
    net(theta).square().sum().backward()
    assert [
        name
        for name, weight in net.named_parameters()
        if weight.grad is None or not weight.grad.abs().max()
    ] == []
    alone = torch.cat([net({n: t[i : i + 1] for n, t in theta.items()}) for i in range(4)])
    torch.testing.assert_close(net(theta), alone)
    net, theta = (
        net.float(),
        {n: t.float() if t.is_floating_point() else t for n, t in theta.items()},
    )
    expected = net(theta)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(theta)
    assert (rough.float() - expected).abs().max() < 0.15 * (1 + expected.abs().max())


def assert_compiles(make, network):
    """One graph without breaks, equal to the plain call."""
    net, theta = build(make, network, torch.float32), network.weights(2)
    torch.testing.assert_close(compiled(net)(theta), net(theta), rtol=1e-4, atol=1e-5)


def compiled(net):
    """Traced without breaks; the compiler's own warnings (it instantiates autograd functions) are
    no errors.
    """

    def run(theta):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.compile(net, fullgraph=True, backend="eager")(theta)

    return run


def assert_reads_up_to_sign(cls, **kwargs):
    """With its odd group named, a SIREN reads the same when units of that group are negated;
    otherwise it does not.
    """
    network = BY_NAME["siren"]
    theta = network.weights(2, dtype=torch.float64)
    flipped = {
        **theta,
        **{n: -theta[n] for n in ("layers.0.weight", "layers.0.bias", "layers.1.weight")},
    }
    odd, plain = (
        build(lambda n, names=names: cls(n.spec, odd=names, **kwargs), network)
        for names in (["h1"], [])
    )
    torch.testing.assert_close(odd(flipped), odd(theta))
    assert not torch.allclose(plain(flipped), plain(theta))
