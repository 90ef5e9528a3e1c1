"""Metrics against their definitions, pair by pair and case by case."""

import itertools
import math

import pytest
import torch

from wsl.metrics import accuracy, kendall_tau, r2


def tau_by_definition(x, y):
    signs = [
        (torch.sign(a - b).item(), torch.sign(c - d).item())
        for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)
    ]
    untied = math.sqrt(sum(s != 0 for s, _ in signs) * sum(s != 0 for _, s in signs))
    return sum(s * t for s, t in signs) / untied if untied else math.nan


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("n", [2, 3, 17, 64])
def test_tau_counts_pairs_as_its_definition_does(n, levels):
    rng = torch.Generator().manual_seed(n * levels)
    x, y = (torch.randint(levels, (n,), generator=rng).double() / 7 for _ in range(2))
    assert kendall_tau(x, y) == pytest.approx(tau_by_definition(x, y), nan_ok=True)
    assert kendall_tau(x, x + y) == pytest.approx(tau_by_definition(x, x + y), nan_ok=True)


def test_tau_of_known_orders():
    x = torch.arange(1000.0, dtype=torch.float64)
    assert kendall_tau(x, x.exp2()) == 1
    assert kendall_tau(x, -x) == -1
    assert kendall_tau(torch.tensor([1.0, 2, 2, 3]), torch.tensor([1.0, 3, 2, 4])) == pytest.approx(
        5 / math.sqrt(30)
    )
    assert math.isnan(kendall_tau(torch.ones(5), torch.arange(5.0)))
    assert math.isnan(kendall_tau(torch.ones(1), torch.ones(1)))
    assert math.isnan(kendall_tau(torch.ones(0), torch.ones(0)))


def test_tau_agrees_with_scipy_on_many_tied_values():
    stats = pytest.importorskip("scipy.stats")
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(300, (20_000,), generator=rng)
    y = x + torch.randint(500, (20_000,), generator=rng)
    assert kendall_tau(x.float(), y) == pytest.approx(
        stats.kendalltau(x.numpy(), y.numpy()).statistic, abs=1e-12
    )


def test_r2_of_known_predictions():
    true = torch.tensor([1.0, 2, 3, 4])
    assert r2(true, true) == 1
    assert r2(torch.full((4,), 2.5), true) == 0
    assert r2(torch.tensor([2.0, 2, 3, 4]), true) == pytest.approx(1 - 1 / 5)
    assert r2(true.flip(0), true) == pytest.approx(-3)
    assert math.isnan(r2(true, torch.ones(4)))


def test_accuracy_takes_classes_or_scores():
    labels = torch.tensor([0, 2, 1, 1])
    assert accuracy(torch.tensor([0, 2, 2, 1]), labels) == 0.75
    assert accuracy(torch.eye(3)[torch.tensor([0, 2, 2, 1])], labels) == 0.75


@pytest.mark.parametrize("metric", [kendall_tau, r2, accuracy])
def test_wrong_inputs_are_one_clear_error(metric):
    with pytest.raises(
        ValueError, match=r"predicted has shape \(3,\) and true \(4,\), but both must be \(N,\)"
    ):
        metric(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="predicted: 1 of 3 values are NaN"):
        metric(torch.tensor([0.0, math.nan, 1.0]), torch.zeros(3))
