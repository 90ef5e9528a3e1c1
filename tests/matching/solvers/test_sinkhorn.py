"""Soft permutations and their implicit gradient; what matching by them promises."""

import pytest
import torch
from laws.matchers import SPEC, batches, loss, weights
from networks import NETWORKS

from wsl.matching import SinkhornMatching, WeightMatching, match
from wsl.matching.solvers.sinkhorn import apply_soft, balanced, rounded, sinkhorn
from wsl.symmetry import Permutation

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


def scores(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_implicit_gradient_is_that_through_many_iterations(n, temperature):
    x, g = scores(2, n, n), scores(2, n, n, seed=1).detach()
    how = {"temperature": temperature, "iterations": 400}
    through = torch.autograd.grad((balanced(x, **how) * g).sum(), x)[0]
    implicit = torch.autograd.grad((sinkhorn(x, **how) * g).sum(), x)[0]
    torch.testing.assert_close(implicit, through, rtol=1e-6, atol=1e-8)


def test_the_schur_complement_solves_the_whole_system():
    """The system of 2n - 1 equations, written out."""
    n, x, g = 6, scores(6, 6), scores(6, 6, seed=1).detach()
    p = sinkhorn(x, iterations=500)
    found = torch.autograd.grad((p * g).sum(), x)[0]
    p = p.detach()
    eye = torch.eye(n, dtype=torch.float64)
    whole = torch.cat([torch.cat([eye, p], 1), torch.cat([p.T, eye], 1)])[:-1, :-1]
    right = torch.cat([(p * g).sum(1), (p * g).sum(0)])[:-1]
    solved = torch.linalg.solve(whole, right)
    alpha, beta = solved[:n], torch.nn.functional.pad(solved[n:], (0, 1))
    torch.testing.assert_close(found, p * (g - alpha[:, None] - beta), rtol=1e-7, atol=1e-10)


def test_rows_and_columns_sum_to_one_and_cold_ones_are_permutations():
    x = scores(3, 7, 7).detach()
    soft = sinkhorn(x, iterations=200)
    for axis in (-1, -2):
        torch.testing.assert_close(soft.sum(axis), torch.ones(3, 7, dtype=torch.float64))
    x = x + 4 * torch.eye(7, dtype=torch.float64)[torch.tensor([3, 0, 6, 1, 5, 2, 4])]
    cold = sinkhorn(x, temperature=0.05, iterations=200)
    best = rounded(SPEC.parse("a = 7 per r, r = 3\nw: (r a)"), {"r": torch.eye(3), "a": x})
    hard = torch.nn.functional.one_hot(best.indices["a"], 7).double()
    torch.testing.assert_close(cold, hard, rtol=0, atol=1e-4)
    warm = sinkhorn(x, temperature=0.5, iterations=200)
    assert (warm - hard).abs().max() > 1e-3


def test_the_gradient_at_a_permutation_is_finite():
    x = (50 * torch.eye(5, dtype=torch.float64)).requires_grad_()
    slope = torch.autograd.grad((sinkhorn(x) * scores(5, 5, seed=1).detach()).sum(), x)[0]
    assert slope.isfinite().all()
    assert slope.abs().max() < 1e-6


@each_network
def test_hard_ones_act_as_the_permutation_does(network):
    g = Permutation.random(network.spec, torch.Generator().manual_seed(1))
    one_hot = torch.nn.functional.one_hot
    soft = {n: one_hot(index, index.shape[-1]).float() for n, index in g.indices.items()}
    theta = network.weights(seed=2)
    moved = apply_soft(network.spec, soft, theta)
    assert all(torch.equal(moved[n], t) for n, t in g(theta).items() if t.is_floating_point())


@each_network
def test_it_is_never_below_weight_matching(network):
    a, b = network.weights(seed=1), network.weights(seed=2)
    found = match(network.spec, a, b, SinkhornMatching(steps=4, rounded_every=2))
    assert found.objective >= match(network.spec, a, b, WeightMatching()).objective - 1e-4
    assert len(found.trace) == 3


def test_a_loss_half_way_or_anywhere_falls():
    a, b = weights(0), weights(1)
    start = SinkhornMatching(loss, batches(), steps=0)
    for point in ("middle", "random"):
        matcher = SinkhornMatching(loss, batches(), point=point, steps=20)
        assert matcher.needs == {"loss"}
        found = match(SPEC, a, b, matcher)
        middle = {n: (t + found(b)[n]) / 2 for n, t in a.items()}
        assert found.objective == pytest.approx(-float(loss(middle, batches()[0])), rel=1e-5)
        assert found.objective > match(SPEC, a, b, start).objective
    assert SinkhornMatching().needs == {"weights"}


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="a loss and its batches are given together"):
        SinkhornMatching(loss)
    with pytest.raises(ValueError, match="temperature 0, iterations 50 and rounded_every 5 must"):
        SinkhornMatching(temperature=0)
