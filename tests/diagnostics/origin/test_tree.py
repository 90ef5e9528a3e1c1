"""The golden tree of descent, its distances and kurtosis."""

import pytest
import torch

from wsl.diagnostics import descent, kurtosis, relative_distances


def test_the_golden_tree():
    distances = torch.tensor([[0, 1, 1.8], [1, 0, 1], [1.8, 1, 0]])
    found = descent(distances, [3, 2, 1.5])
    assert (found.parents, found.root, found.cost) == ((None, 0, 1), 0, pytest.approx(2))
    assert (found.children(0), found.children(2)) == ((1,), ())


def test_rising_kurtosis_costs_a_share_of_the_mean_distance():
    distances = torch.tensor([[0, 1, 1.8], [1, 0, 1], [1.8, 1, 0]])
    assert descent(distances, [1.5, 2, 3]).parents == (1, 2, None)
    assert descent(torch.tensor([[0.0, 2], [2, 0]]), [1, 1]).cost == pytest.approx(2)


def test_one_member_is_its_own_root_and_sizes_must_fit():
    assert descent(torch.zeros(1, 1), [3.0]).parents == (None,)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but there are 3 kurtoses"):
        descent(torch.zeros(2, 2), [1, 2, 3])


def test_distances_are_relative_and_symmetric():
    members = [{"w": torch.tensor([[3.0, 4.0]])}, {"w": torch.tensor([[3.0, -4.0]])}]
    assert relative_distances(members)[0, 1] == pytest.approx(8 / 5)
    assert torch.equal(relative_distances(members), relative_distances(members).T)
    zero = {"w": torch.zeros(1, 2)}
    assert relative_distances([zero, zero])[0, 1] == 0


def test_kurtosis_is_three_for_normal_weights_and_ignores_biases():
    rng = torch.Generator().manual_seed(0)
    normal = {"w": torch.randn(400, 400, generator=rng), "b": torch.full((400,), 7.0)}
    assert kurtosis(normal) == pytest.approx(3, abs=0.05)
    assert kurtosis({"w": torch.rand(400, 400, generator=rng)}) == pytest.approx(1.8, abs=0.02)
    assert kurtosis({"w": torch.ones(3, 3)}) == 0
