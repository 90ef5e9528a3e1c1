"""What is said of two checkpoints tensor by tensor, and of the rank of a difference."""

import math

import pytest
import torch

from wsl.diagnostics import compare_tensors, difference_rank
from wsl.diagnostics.origin import ranks


def matrix(m, n, seed=0):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def one(a, b):
    return compare_tensors({"w": a}, {"w": b}).pairs["w"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 4])
def test_a_low_rank_update_is_counted_in_any_precision(dtype, rank):
    base = matrix(40, 60)
    moved = base + matrix(40, rank, 1) @ matrix(rank, 60, 2)
    found = difference_rank(base.to(dtype), moved.to(dtype))
    assert found == (rank, 40, False)
    assert found.is_low


def test_a_full_update_is_full_and_no_update_is_none():
    base = matrix(30, 30)
    assert difference_rank(base, base + 1e-3 * matrix(30, 30, 1)).rank == 30
    assert difference_rank(base, base).rank == 0
    kernel = torch.randn(6, 3, 5, 5)
    assert difference_rank(kernel, kernel + 1).full == 6


def test_large_matrices_are_counted_through_a_sketch(monkeypatch):
    monkeypatch.setattr(ranks, "EXACT", 20)
    monkeypatch.setattr(ranks, "SKETCH", 16)
    base = matrix(60, 90)
    low = base + matrix(60, 3, 1) @ matrix(3, 90, 2)
    assert difference_rank(base, low) == (3, 60, False)
    assert difference_rank(base, base + matrix(60, 90, 3)) == (16, 60, True)


def test_kinds_of_tensors():
    base = matrix(30, 20)
    assert one(base, base.clone()).kind == "equal"
    assert one(base, base.bfloat16()).kind == "cast"
    assert one(base.half(), base).kind == "cast"
    pruned = torch.where(base.abs() > 0.6, base, 0.0)
    assert (one(base, pruned).kind, one(pruned, base).kind) == ("pruned", "changed")
    assert one(base, base + matrix(30, 1, 1) @ matrix(1, 20, 2)).kind == "low rank"
    assert one(base, base + 0.01 * matrix(30, 20, 1)).kind == "changed"
    assert one(torch.tensor(3), torch.tensor(4)).kind == "changed"


def test_shares_and_cosines():
    a, b = torch.tensor([1.0, 0, 2, 0]), torch.tensor([1.0, 0, 3, 5])
    found = one(a, b)
    assert found.equal == pytest.approx(1 / 3)
    assert found.zeros == (0.5, 0.25)
    assert found.cosine == pytest.approx(7 / (5 * 35) ** 0.5)
    assert math.isnan(one(torch.zeros(2), b[:2]).cosine)
    assert one(torch.zeros(2), torch.zeros(2)).equal == 1


def test_names_shapes_and_types_are_compared():
    a = {"w": torch.ones(2, 2), "gone": torch.ones(1), "s": torch.ones(3), "t": torch.ones(2)}
    b = {"w": torch.ones(2, 2), "new": torch.ones(1), "s": torch.ones(4), "t": torch.ones(2).half()}
    found = compare_tensors(a, b)
    assert (found.missing, found.new, found.alike) == (("gone",), ("new",), False)
    assert found.reshaped == {"s": ((3,), (4,))}
    assert found.retyped == {"t": ("float32", "float16")}
    assert found.of_kind("equal") == ("w",)
    assert compare_tensors(a, a).same
    assert compare_tensors({"w": a["w"]}, {"w": 2 * a["w"]}).equal_entries == 0


def test_a_rank_needs_matrices_of_one_shape():
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(3,\)"):
        difference_rank(torch.ones(3), torch.ones(3))
