"""Weights as plain dicts: what is read off a module, and what is refused."""

import pytest
import torch
from torch import nn

from wsl import params
from wsl.connectivity import lerp
from wsl.merging import average


class Calibrated(nn.Module):
    """A network that keeps more in its state dict than tensors."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.hidden(x).relu())

    def get_extra_state(self):
        return {"calibrated": True}

    def set_extra_state(self, state):
        pass


class OnlyExtra(Calibrated):
    """The extra state stands first in the state dict of a module that has one itself."""

    def __init__(self):
        super().__init__()
        self.inner = Calibrated()

    def forward(self, x):
        return super().forward(x) + self.inner(x)


@pytest.mark.parametrize("kind", [Calibrated, OnlyExtra])
def test_extra_state_is_no_weight(kind):
    model, x = kind(), torch.randn(3, 4)
    theta = params.from_module(model)
    assert list(theta) == [name for name in model.state_dict() if "_extra_state" not in name]
    assert torch.equal(params.call(model, theta, x), model(x))
    assert torch.equal(params.call(model, dict(model.state_dict()), x), model(x))
    stacked = params.stack([theta, theta])
    assert params.call(model, stacked, x).shape == (2, 3, 2)


def test_weights_without_the_first_tensor_are_refused_by_its_name():
    with pytest.raises(ValueError, match="weight: the model has it, but the weights do not"):
        params.call(nn.Linear(2, 2), {"bias": torch.zeros(2)}, torch.zeros(1, 2))


def test_a_running_variance_is_known_by_its_name():
    assert params.is_running_variance("block.1.running_var")
    assert params.is_running_variance("running_var")
    assert not params.is_running_variance("running_variance.weight")


@pytest.mark.parametrize(
    "merge", [lambda a, b: lerp(a, b, 2.0), lambda a, b: average([a, b], [3, -2])]
)
def test_a_half_precision_result_that_overflows_is_named(merge):
    a = {"head.weight": torch.full((2,), 4e4).half(), "head.bias": torch.zeros(2).half()}
    b = {"head.weight": torch.full((2,), -4e4).half(), "head.bias": torch.zeros(2).half()}
    with pytest.raises(ValueError, match=r"head\.weight: .* leaves the range of float16.*float32"):
        merge(a, b)
    wide = merge(*({name: tensor.float() for name, tensor in theta.items()} for theta in (a, b)))
    assert wide["head.weight"].isfinite().all()


def test_infinities_of_the_parents_are_their_own():
    a = {"mask": torch.tensor([float("-inf"), 0.0]).half()}
    assert lerp(a, a, 0.5)["mask"][1] == 0
