"""`ProbeNet`: invariant to all that keeps the function, blind to nothing that changes its
answers.
"""

import threading

import pytest
import torch
from functionals import (
    DTYPES,
    MARKET,
    assert_reads_and_is_invariant,
    assert_sees_one_alone,
    assert_trains_and_casts,
    build,
)
from networks import BY_NAME

from wsl.nn import ProbeNet
from wsl.params import call
from wsl.symmetry import SpecError, permutation_spec

SERIAL = {"attention", "gru"}  # vmap has no rule for the fused kernels of these two


class Locked(torch.nn.Sequential):
    """A network that `copy.deepcopy` cannot copy."""

    def __init__(self):
        super().__init__(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        self.lock = threading.Lock()


def test_a_network_that_cannot_be_copied_whole_is_probed():
    base = Locked()
    spec = permutation_spec(base, torch.zeros(2, 3))
    probe = ProbeNet(spec, base, (3,), probes=4, out_features=2)
    theta = {name: t.detach().clone()[None] for name, t in base.named_parameters()}
    before = probe(theta)
    base[0].weight.data += 1  # the copy is another network
    torch.testing.assert_close(probe({**theta}), before)
    assert base[0].weight.requires_grad


def maker(**kwargs):
    def make(network):
        given = {"probes": 4, "out_features": 3, "vectorized": network.name not in SERIAL, **kwargs}
        return ProbeNet(network.spec, network.make(), network.input_shape, **given)

    return make


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_probes_give_equal_answers_for_equivalent_weights(network, dtype):
    assert_reads_and_is_invariant(maker(), network, dtype)


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_probes_see_when_one_occurrence_moves_alone(network):
    assert_sees_one_alone(maker(latent=3), network)


@pytest.mark.parametrize("latent", [0, 3])
def test_probes_train(latent):
    assert_trains_and_casts(maker(latent=latent), BY_NAME["mlp"])


def test_answers_are_those_of_each_member_alone():
    network = BY_NAME["residual"]
    net, theta = build(maker(), network), network.weights(3, dtype=torch.float64)
    model = network.make().double().eval()
    answers = net.answers(theta)
    assert answers.shape == (3, 4, 3)
    for i in range(3):
        torch.testing.assert_close(
            answers[i], call(model, {n: t[i] for n, t in theta.items()}, net.probes)
        )


def test_a_function_serves_as_well_as_a_module():
    network = BY_NAME["siren"]
    model = network.make().double()
    net, theta = build(maker(), network), network.weights(2, dtype=torch.float64)
    other = build(
        lambda n: ProbeNet(
            n.spec, lambda p, x: call(model.to(x), p, x), (2,), probes=4, out_features=3
        ),
        network,
    )
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(theta), net(theta))


def test_signs_that_keep_the_function_are_not_seen():
    network = BY_NAME["siren"]
    net, theta = build(maker(), network), network.weights(2, dtype=torch.float64)
    flipped = {
        **theta,
        **{n: -theta[n] for n in ("layers.0.weight", "layers.0.bias", "layers.1.weight")},
    }
    torch.testing.assert_close(net(flipped), net(theta))


def test_the_base_network_is_neither_trained_nor_saved_nor_changed():
    network = BY_NAME["residual"]
    base = network.make()
    net = ProbeNet(network.spec, base, network.input_shape)
    assert {name.split(".")[0] for name in net.state_dict()} == {"codes", "head"}
    net(network.weights(2))
    assert base.training
    assert int(base.bn1.num_batches_tracked) == 0
    assert all(weight.requires_grad for weight in base.parameters())


def test_generated_probes_are_a_linear_function_of_their_codes():
    net = build(maker(latent=3), BY_NAME["cnn"])
    zero = net.generator(torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(
        net.generator(2 * net.codes) - zero, 2 * (net.generator(net.codes) - zero)
    )
    assert net.probes.shape == (4, 2, 6, 6)


def test_weights_that_do_not_fit_are_named():
    network = BY_NAME["mlp"]
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        build(maker(), network, torch.float32)({**network.weights(2), "2.bias": torch.zeros(2, 9)})


def test_a_network_that_vmap_cannot_batch_is_told_what_to_set():
    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            return self.gru(x)[0][:, -1]

    spec = permutation_spec(Last(), torch.randn(2, 4, 2))
    with pytest.raises(
        ValueError, match=r"torch.vmap cannot run this network .* set vectorized=False"
    ):
        ProbeNet(spec, Last(), [4, 2], probes=2)
    assert ProbeNet(spec, Last(), [4, 2], probes=2, vectorized=False).head
