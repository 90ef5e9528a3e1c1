"""Blocks that do nothing: a shallow residual network computes the same when it is made deeper."""

import pytest
import torch
from torch import nn

from wsl import params, permutation_spec
from wsl.matching import match
from wsl.matching.wider import deepen
from wsl.symmetry import SpecError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x):
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 6, 3), nn.Linear(6, 3)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Net(1).double().eval(), Net(3).double().eval()


def test_a_deeper_network_of_the_same_function_can_be_matched(nets):
    shallow, deep = nets
    x = torch.randn(4, 2, 7, 7, dtype=torch.float64)
    spec = permutation_spec(deep, x)
    theta = deepen(spec, params.from_module(shallow), params.from_module(deep))
    torch.testing.assert_close(params.call(deep, theta, x), shallow(x))
    assert theta["blocks.2.conv1.weight"].abs().sum() > 0
    assert theta["blocks.2.bn2.running_var"].min() > 0
    found = match(spec, params.from_module(deep), theta)
    torch.testing.assert_close(params.call(deep, found(theta), x), shallow(x))


def test_what_is_no_block_of_a_stream_is_refused(nets):
    shallow, deep = nets
    spec = permutation_spec(deep, torch.randn(4, 2, 7, 7, dtype=torch.float64))
    theta = params.from_module(shallow)
    theta.pop("stem.weight")
    theta["stem.bias"] = theta["stem.bias"][:-1]
    with pytest.raises(SpecError, match=r"stem.bias"):
        deepen(spec, theta, params.from_module(deep))
    with pytest.raises(SpecError, match="none of them is written along a group"):
        deepen(
            spec.restrict(["head.bias", "stem.bias"]),
            {"head.bias": theta["head.bias"]},
            {n: t for n, t in params.from_module(deep).items() if n in ("head.bias", "stem.bias")},
        )
