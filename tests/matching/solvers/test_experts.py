"""Mixtures of experts: the published example, and shuffled experts that are put back."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsl import params
from wsl.matching import (
    CircuitMatching,
    ExpertView,
    WeightMatching,
    match,
    order_by_gates,
    order_by_grams,
)
from wsl.symmetry import Permutation, PermutationSpec, SpecError, symmetry_spec

WIDTH, HIDDEN, COUNT = 6, 5, 4


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Mixture(nn.Module):
    """Only the best two experts of each input are used, and weighted by their softmax."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(WIDTH, COUNT)
        self.experts = nn.ModuleList(Expert() for _ in range(COUNT))

    def forward(self, x):
        gates = self.gate(x)
        best = gates >= gates.topk(2, -1).values[..., 1:]
        shares = gates.masked_fill(~best, -math.inf).softmax(-1)
        return sum(shares[..., i, None] * expert(x) for i, expert in enumerate(self.experts))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        self.layers = nn.ModuleList(Mixture() for _ in range(2))

    def forward(self, x):
        x = F.gelu(self.inp(x))
        for layer in self.layers:
            x = x + layer(x)
        return self.out(x)


def network():
    torch.manual_seed(0)
    model, x = Network().double(), torch.randn(9, 3, dtype=torch.float64)
    return symmetry_spec(model, x), model, x


def test_the_gates_of_the_published_example_are_put_in_order_at_no_cost():
    w, b = torch.tensor([[1.0, 0], [0, 1], [-1, -1]]), torch.tensor([0, 0.5, -0.5])
    order = [2, 0, 1]
    moved = w[order] + torch.tensor([5.0, -3]), b[order] + 7
    found = order_by_gates((w, b), moved)
    assert found.order.tolist() == [1, 2, 0]
    assert found.cost < 1e-6


def test_grams_do_not_see_the_order_of_hidden_units_nor_build_what_they_compare():
    rng = torch.Generator().manual_seed(0)
    up, down = torch.randn(4, 5, 7, generator=rng), torch.randn(4, 7, 5, generator=rng)
    order = torch.randperm(4, generator=rng)
    units = [torch.randperm(5, generator=rng) for _ in range(4)]
    other_up = torch.stack([up[i][units[i]] for i in order])
    other_down = torch.stack([down[i][:, units[i]] for i in order])
    found = order_by_grams((up, down), (other_up, other_down))
    assert torch.equal(order[found.order], torch.arange(4))
    assert found.cost < 1e-4

    other = order_by_grams((up, down), (other_up.flip(0) + 1, other_down))
    grams = [(x.mT @ x, y @ y.mT) for x, y in ((up, down), (other_up.flip(0) + 1, other_down))]
    apart = [(p[:, None] - q).square().sum((2, 3)) for p, q in zip(*grams, strict=True)]
    slow = (apart[0] + apart[1]).sqrt().gather(1, other.order[:, None]).sum()
    assert math.isclose(other.cost, float(slow), rel_tol=1e-4)


@pytest.mark.parametrize(
    "matcher", [WeightMatching(), CircuitMatching()], ids=["weight", "circuits"]
)
def test_shuffled_experts_and_their_units_are_recovered(matcher):
    spec, model, x = network()
    view = ExpertView.of(spec)
    a = params.from_module(model)
    g = Permutation.random(view.spec, torch.Generator().manual_seed(1))
    b = view.split(g(view.join(a, centre=False)))
    for key in ("layers.0.gate", "layers.1.gate"):
        b[f"{key}.weight"] = b[f"{key}.weight"] + torch.arange(6.0)
        b[f"{key}.bias"] = b[f"{key}.bias"] - 3
    torch.testing.assert_close(params.call(model, b, x), model(x))
    found = match(view.spec, view.join(a), view.join(b), matcher)
    back = view.split(found(view.join(b)))
    expected = view.split(view.join(a))
    assert all(torch.allclose(back[name], expected[name]) for name in expected)
    torch.testing.assert_close(params.call(model, back, x), model(x))


def test_the_view_is_a_specification_of_one_tensor_for_all_experts():
    spec, _, _ = network()
    view = ExpertView.of(spec)
    text = str(view.spec)
    assert "expert1 = 4" in text
    assert "layers.0.experts.up.weight: (expert1 h2) h1" in text
    assert "layers.0.experts.down.bias: expert1 h1" in text
    assert "layers.1.gate.weight: expert2 h1" in text
    assert PermutationSpec.parse(text) == view.spec
    a = {name: torch.randn(shape) for name, shape in spec.shapes.items()}
    again = view.split(view.join(a, centre=False))
    assert list(again) == list(a)
    assert all(torch.equal(again[name], a[name]) for name in a)


def test_networks_without_experts_or_with_unlike_ones_are_refused():
    with pytest.raises(SpecError, match=r"no tensor is called 'experts\.0\.NAME'"):
        ExpertView.of(PermutationSpec.parse("h = 2\na: h"))
    unlike = "h = 2, k = 3\nexperts.0.a: h\nexperts.1.a: k"
    with pytest.raises(SpecError, match=r"experts\.1: its tensors are not annotated like"):
        ExpertView.of(PermutationSpec.parse(unlike))
    gap = "h = 2, k = 2\nexperts.0.a: h\nexperts.2.a: k"
    with pytest.raises(SpecError, match=r"experts are numbered \[0, 2\], not from 0 on"):
        ExpertView.of(PermutationSpec.parse(gap))
