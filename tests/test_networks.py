"""Every golden specification is true: a random element of its group leaves the function as it
is.
"""

import pytest
import torch
from networks import DEEP, NETWORKS

from wsl import params
from wsl.symmetry import Permutation


@pytest.mark.parametrize("network", [*NETWORKS, *DEEP], ids=lambda n: n.name)
def test_golden_specification_preserves_the_function(network):
    model, x = network.make().double().eval(), network.inputs().double()
    theta = network.weights(dtype=torch.float64)
    spec = network.spec
    assert str(spec) == network.golden
    spec.validate(params.from_module(model))
    moved = Permutation.random(spec, torch.Generator().manual_seed(1))(theta)
    assert any(not torch.equal(moved[name], theta[name]) for name in theta)
    torch.testing.assert_close(
        params.call(model, moved, x), params.call(model, theta, x), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_stacked_members_give_the_same_outputs_as_each_alone(network):
    model, x = network.make().double().eval(), network.inputs().double()
    if network.name in {"gru", "attention"}:
        pytest.skip("torch.func has no batching rule for the fused recurrent and attention kernels")
    thetas = network.weights(4, dtype=torch.float64)
    alone = torch.stack([params.call(model, theta, x) for theta in params.unstack(thetas)])
    torch.testing.assert_close(params.call(model, thetas, x), alone)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_ravel_and_unravel_are_inverse(network):
    theta = {name: t for name, t in network.weights(2, 3).items() if t.is_floating_point()}
    back = params.unravel(params.ravel(theta, 2), params.shapes(theta, 2))
    assert all(torch.equal(back[name], theta[name]) for name in theta)


class Shared(torch.nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = self.first

    def forward(self, x):
        return self.second(self.first(x).relu())


def test_tied_weights_are_called_under_both_names():
    model, x = Shared(), torch.randn(3, 4)
    theta = {name: tensor + 1 for name, tensor in params.from_module(model).items()}
    moved = Shared()
    moved.load_state_dict(theta)
    torch.testing.assert_close(params.call(model, theta, x), moved(x))
    torch.testing.assert_close(
        params.call(model, params.stack([theta, theta]), x), moved(x).expand(2, -1, -1)
    )
