"""Networks of unequal widths: units that were split are brought back; transports are optimal."""

import pytest
import torch
from networks import BY_NAME
from scipy.optimize import linear_sum_assignment

from wsl import params
from wsl.matching.wider import optimal_plan, transport, widen
from wsl.matching.wider.transport import linear_program
from wsl.symmetry import Permutation, SpecError


def pair(name, seed=0):
    """A network, and one of twice the width with each unit split in two, in any order."""
    network = BY_NAME[name]
    a = network.weights(seed=seed, dtype=torch.float64)
    wide = widen(network.spec, [a, a], 1.0)
    g = Permutation.random(wide.spec, torch.Generator().manual_seed(seed))
    return network, (network.spec, wide.spec), a, g(wide.params)


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "dense"])
def test_units_that_were_split_are_joined_again(name):
    network, specs, a, b = pair(name)
    found = transport(specs, a, b)
    for key, tensor in a.items():
        torch.testing.assert_close(found.params[key], tensor)
    for group, mass in found.plans.items():
        assert mass.shape == (2 * network.spec.groups[group], network.spec.groups[group])
    x = network.inputs(4).double()
    mine, theirs = (params.call(network.make().eval(), t, x) for t in (found.params, b))
    torch.testing.assert_close(mine, theirs)


def test_the_other_way_units_are_shared_out():
    """A narrow network at twice its width computes what it did: each unit stands for two."""
    network, (narrow, wide), a, b = pair("mlp")
    found = transport((wide, narrow), b, a)
    x = network.inputs(4).double()
    mine, theirs = (params.call(network.make(), t, x) for t in (found.params, a))
    torch.testing.assert_close(mine, theirs)


def test_equal_widths_give_an_assignment():
    network = BY_NAME["cnn"]
    a = network.weights(seed=1)
    g = Permutation.random(network.spec, torch.Generator().manual_seed(2))
    found = transport((network.spec, network.spec), a, g(a), sweeps=1)
    for name, tensor in a.items():
        torch.testing.assert_close(found.params[name], tensor)


@pytest.mark.parametrize("sizes", [(4, 6), (5, 5), (3, 7)])
def test_the_exact_plan_is_that_of_the_linear_program(sizes):
    cost = torch.rand(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, solved = optimal_plan(cost), linear_program(cost)
    for mass in (found, solved):
        torch.testing.assert_close(mass.sum(1), torch.full((sizes[0],), 1 / sizes[0]).double())
        torch.testing.assert_close(mass.sum(0), torch.full((sizes[1],), 1 / sizes[1]).double())
        assert mass.min() >= -1e-12
    torch.testing.assert_close((found * cost).sum(), (solved * cost).sum())
    if sizes[0] == sizes[1]:
        rows, columns = linear_sum_assignment(cost.numpy())
        assert float((found * cost).sum()) == pytest.approx(cost.numpy()[rows, columns].mean())


def test_a_soft_plan_becomes_the_exact_one_as_it_cools():
    cost = torch.rand(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = float((optimal_plan(cost) * cost).sum())
    prices = [float((optimal_plan(cost, t) * cost).sum()) for t in (1.0, 0.1, 0.02)]
    assert prices[0] > prices[1] > prices[2] > exact - 1e-9
    assert prices[2] == pytest.approx(exact, rel=0.02)
    _, specs, a, b = pair("mlp")
    soft = transport(specs, a, b, temperature=0.01)
    torch.testing.assert_close(soft.params["0.weight"], a["0.weight"], rtol=0.01, atol=0.01)


def test_what_cannot_be_transported_is_refused_by_name():
    _, specs, a, b = pair("mlp")
    other = BY_NAME["cnn"].spec
    with pytest.raises(SpecError, match="differ in more than the sizes of groups"):
        transport((specs[0], other), a, BY_NAME["cnn"].weights())
    attention = BY_NAME["attention"]
    with pytest.raises(SpecError, match="is a family, which is not transported"):
        transport((attention.spec, attention.spec), attention.weights(), attention.weights())
    with pytest.raises(ValueError, match=r"0.bias: .* in 'b' are NaN or infinite"):
        transport(specs, a, {**b, "0.bias": b["0.bias"] * float("nan")})
    with pytest.raises(SpecError, match=r"a: has batch axes \(2,\)"):
        transport(specs, params.stack([a, a]), b)
