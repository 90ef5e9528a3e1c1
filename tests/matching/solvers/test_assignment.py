"""Both solvers of the assignment find optima; the optional one is used where it is installed."""

import itertools
import sys
import types

import numpy as np
import pytest
import torch

from wsl.matching.solvers import assignment


@pytest.fixture(autouse=True)
def chosen_anew():
    assignment.solver.cache_clear()
    yield
    assignment.solver.cache_clear()


def hard_scores(*shape):
    """Scores whose largest entries all lie in the first column, so that a solver is needed."""
    scores = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[..., 0] += 10
    return scores


def total(scores, columns):
    return scores.gather(-1, columns[..., None]).sum((-1, -2))


def test_without_the_extra_scipy_solves(monkeypatch):
    monkeypatch.setitem(sys.modules, "lap", None)
    assert assignment.solver() is assignment.scipy_solver
    scores = hard_scores(3, 5, 5)
    every = torch.tensor(list(itertools.permutations(range(5))))
    best = torch.stack([total(scores, p.expand(3, 5)) for p in every]).amax(0)
    torch.testing.assert_close(total(scores, assignment.assign(scores)), best)


def test_with_the_extra_its_solver_is_asked(monkeypatch):
    asked = []

    def lapjv(cost, return_cost):
        assert cost.dtype == np.float64
        assert not return_cost
        asked.append(cost.shape)
        columns = assignment.scipy_solver(cost)
        return columns, np.argsort(columns)

    monkeypatch.setitem(sys.modules, "lap", types.SimpleNamespace(lapjv=lapjv))
    scores = hard_scores(2, 4, 4)
    found = assignment.assign(scores)
    assert asked == [(4, 4), (4, 4)]
    expected = [assignment.scipy_solver(-matrix) for matrix in scores.numpy()]
    assert found.tolist() == np.stack(expected).tolist()


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_the_optional_solver_finds_the_permutation_of_scipys(n):
    pytest.importorskip("lap")
    scores = hard_scores(n, n)
    found = assignment.assign(scores)
    assert found.sort().values.tolist() == list(range(n))
    assert found.tolist() == assignment.scipy_solver(-scores.numpy()).tolist()


def test_the_optional_solver_is_optimal_among_equals():
    pytest.importorskip("lap")
    scores = torch.randint(0, 3, (30, 30), generator=torch.Generator().manual_seed(1)).double()
    columns = torch.from_numpy(assignment.scipy_solver(-scores.numpy()))
    assert total(scores, assignment.assign(scores)) == total(scores, columns)
