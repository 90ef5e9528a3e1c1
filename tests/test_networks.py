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


class TwoNames(torch.nn.Module):
    """One embedding, registered on its own and inside of another module, as T5 does."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Linear(4, 4)
        self.encoder = torch.nn.ModuleDict({"own": self.shared, "ff": torch.nn.Linear(4, 4)})

    def forward(self, x):
        return self.encoder["ff"](self.encoder["own"](x).relu()) + self.shared(x)


@pytest.mark.parametrize("members", [0, 2])
@pytest.mark.parametrize("make", [Shared, TwoNames])
def test_a_call_leaves_the_model_as_it_was(make, members):
    model, x = make(), torch.randn(3, 4)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = dict(model.named_parameters())
    theta = params.from_module(make())
    params.call(model, params.stack([theta] * members) if members else theta, x)
    assert dict(model.named_parameters()).keys() == before.keys()
    for name, parameter in model.named_parameters():
        assert parameter is before[name]
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_a_call_that_fails_leaves_the_model_as_it_was():
    model = TwoNames()
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError):
        params.call(model, params.from_module(TwoNames()), torch.randn(3, 5))
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_of_a_module_with_two_names_the_last_one_counts():
    model, x = TwoNames(), torch.randn(3, 4)
    theta = params.from_module(model)
    theta |= {name: theta[name] + 1 for name in theta if name.startswith("encoder.own")}
    moved = TwoNames()
    moved.load_state_dict(theta)
    torch.testing.assert_close(params.call(model, theta, x), moved(x))


def test_members_counts_the_one_leading_axis():
    theta = {"w": torch.zeros(2, 3), "b": torch.zeros(())}
    assert params.members(params.stack([theta, theta, theta])) == 3
    for wrong, message in [
        ({}, "no tensors given"),
        (theta, "b: has no leading axis of members"),
        ({"w": torch.zeros(2, 3), "b": torch.zeros(3)}, "b: has 3 members, .* before have 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            params.members(wrong)


def test_check_alike_names_the_first_difference():
    a = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    params.check_alike(a, {name: tensor + 1 for name, tensor in a.items()})
    for other, message in [
        ({"w": a["w"]}, "b: only the first of the two has it"),
        ({**a, "c": a["b"]}, "c: only the second of the two has it"),
        ({**a, "w": torch.zeros(3, 2)}, r"w: shapes \(2, 3\) and \(3, 2\) differ"),
    ]:
        with pytest.raises(ValueError, match=message):
            params.check_alike(a, other)
