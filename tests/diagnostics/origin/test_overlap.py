"""Golden values of effective rank and overlap."""

import math

import pytest
import torch

from wsl.diagnostics import effective_rank, right_overlap


@pytest.mark.parametrize(
    ("other", "golden"),
    [
        ((1.0, 0.0), 1),
        ((0.0, 1.0), 2),
        ((0.0, 3.0), 1.75477),
        ((math.cos(math.pi / 3), math.sin(math.pi / 3)), 1.92863),
    ],
)
def test_effective_rank_of_two_changes(other, golden):
    found = effective_rank([torch.tensor([1.0, 0.0]), torch.tensor(other)])
    assert found == pytest.approx(golden, abs=1e-5)


def test_changes_that_are_zero_span_nothing():
    assert effective_rank([torch.zeros(3, 2)]) == 0
    assert effective_rank([torch.zeros(2), torch.ones(2)]) == pytest.approx(1)
    with pytest.raises(ValueError, match="no changes given"):
        effective_rank([])


def test_equal_subspaces_overlap_by_one_and_orthogonal_ones_by_nothing():
    rng = torch.Generator().manual_seed(0)
    change = torch.randn(20, 30, generator=rng)
    mixed = torch.randn(20, 20, generator=rng) @ change
    assert right_overlap(change[:10], mixed[:10], 10) < 1
    assert right_overlap(change, mixed, 20) == pytest.approx(1)
    assert right_overlap(change[:10], change[:10], 10) == pytest.approx(1)
    axes = torch.eye(6)
    assert right_overlap(axes[:3], axes[3:], 3) == 0
    assert right_overlap(axes[:2], axes[1:3], 2) == pytest.approx(0.5**0.5)


def test_bad_shapes_and_ranks_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 4\)"):
        right_overlap(torch.ones(2, 3), torch.ones(2, 4), 1)
    with pytest.raises(ValueError, match="rank is 3, but it must be from 1 to 2"):
        right_overlap(torch.ones(2, 3), torch.ones(2, 3), 3)
