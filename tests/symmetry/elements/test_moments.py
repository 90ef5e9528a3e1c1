"""An optimiser's state moves with the weights: training goes on as it would have."""

import pytest
import torch
from networks import BY_NAME
from torch import nn

from wsl.params import from_module
from wsl.symmetry import Permutation, permutation_spec, permute_optimizer

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW in groups": lambda p: torch.optim.AdamW([{"params": p[:2]}, {"params": p[2:]}], lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)).double()


def steps(model, optimizer, count):
    for _ in range(count):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_as_it_would_have(kind):
    model, twin = network(), network()
    optimizer = OPTIMIZERS[kind](list(model.parameters()))
    steps(model, optimizer, 5)
    g = Permutation.random(permutation_spec(model, X), torch.Generator().manual_seed(1))
    twin.load_state_dict(g(from_module(model)))
    other = OPTIMIZERS[kind](list(twin.parameters()))
    names = [name for name, _ in model.named_parameters()]
    other.load_state_dict(permute_optimizer(g, optimizer.state_dict(), names))
    steps(model, optimizer, 5)
    steps(twin, other, 5)
    for name, tensor in g(from_module(model)).items():
        torch.testing.assert_close(twin.state_dict()[name], tensor, rtol=1e-9, atol=1e-12)


def test_a_state_that_does_not_fit_is_named():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    steps(model, optimizer, 1)
    g, state = Permutation.identity(permutation_spec(model, X)), optimizer.state_dict()
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError, match="has 4 parameters, but 3 names"):
        permute_optimizer(g, state, names[:3])
    with pytest.raises(ValueError, match="has no tensor other"):
        permute_optimizer(g, state, [*names[:3], "other"])
    with pytest.raises(ValueError, match=r"exp_avg of 0\.bias has shape \(9, 6\)"):
        permute_optimizer(g, state, [names[1], names[0], *names[2:]])


def test_an_average_of_weights_moves_as_the_weights():
    """An EMA copy has the same names, so that the element itself is the way."""
    net = BY_NAME["cnn"]
    g = Permutation.random(net.spec, torch.Generator().manual_seed(2))
    one, two = ({n: t[i] for n, t in net.weights(2).items()} for i in range(2))
    ema = {name: 0.9 * one[name] + 0.1 * two[name] for name in one}
    moved = g(ema)
    for name, tensor in moved.items():
        torch.testing.assert_close(tensor, 0.9 * g(one)[name] + 0.1 * g(two)[name])
