"""`relu` and `peak` are torch's own, with their derivatives. That compiled networks keep no masks:
`test_compiled`.
"""

import pytest
import torch

from wsl.nn.engine.maskless import peak, relu

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
PAIRS = {"relu": (relu, torch.relu), "peak": (peak, lambda x: x.amax(0))}


def both(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y.square().sum() + y.sum(), x)[0]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients_are_those_of_torch_compiled_or_not(name, dtype):
    mine, theirs = PAIRS[name]
    x = torch.randint(-3, 4, (50, 3, 8)).to(dtype)  # zeros for the ReLU, ties for the maximum
    for function in (mine, torch.compile(mine, backend="aot_eager", fullgraph=True)):
        for found, plain in zip(both(function, x), both(theirs, x), strict=True):
            torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("name", PAIRS)
def test_second_derivatives_are_those_of_torch(name):
    mine, theirs = PAIRS[name]
    x = torch.randn(6, 3, 2, requires_grad=True)

    def twice(function):
        (g,) = torch.autograd.grad(function(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    torch.testing.assert_close(twice(mine), twice(theirs))
