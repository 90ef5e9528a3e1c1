"""Measures of task vectors that are known by construction."""

import math

import pytest
import torch
from torch import nn

from wsl.diagnostics import right_overlap
from wsl.merging import input_gradient_distances, interference, lerp, merge_report
from wsl.params import call, from_module


def shifted(base, **changes):
    return {name: t + changes.get(name, torch.zeros_like(t)) for name, t in base.items()}


BASE = {
    "w": torch.randn(4, 6, generator=torch.Generator().manual_seed(0)),
    "b": torch.zeros(4),
    "steps": torch.tensor(3),
}


def test_cosines_conflicts_and_rank_of_planted_changes():
    one = shifted(BASE, b=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    other = shifted(BASE, b=torch.tensor([1.0, -1.0, 1.0, 0.0]))
    found = interference([one, other], BASE)
    assert found.names == ("b",)
    assert found.cosine[0, 1] == pytest.approx(0)
    assert found.conflict[0, 1] == pytest.approx(0.5)  # one of two entries that both move
    assert found.layers[0].tolist() == pytest.approx([0, 0.5])
    assert torch.isnan(found.overlap).all()
    assert found.effective_rank == pytest.approx(1.99, abs=0.05)
    same = interference([one, one], BASE)
    assert same.cosine.tolist() == [[pytest.approx(1)] * 2] * 2
    assert same.conflict[0, 1] == 0
    assert same.effective_rank == pytest.approx(1)


def test_overlap_is_the_mean_right_overlap_of_the_matrices_that_both_move():
    rng = torch.Generator().manual_seed(1)
    base = {**BASE, "conv": torch.zeros(5, 2, 3, 3), "still": torch.zeros(3, 3)}
    both = [
        shifted(
            base,
            w=torch.randn(4, 6, generator=rng),
            conv=torch.randn(5, 2, 3, 3, generator=rng),
        )
        for _ in range(2)
    ]
    only = shifted(base, w=torch.randn(4, 6, generator=rng))
    found = interference([*both, only], base, rank=2)
    moved = [{n: t - base[n] for n, t in each.items()} for each in (*both, only)]
    golden = [
        right_overlap(moved[0][n].flatten(1), moved[1][n].flatten(1), 2) for n in ("w", "conv")
    ]
    assert found.overlap[0, 1] == pytest.approx(sum(golden) / 2)
    assert found.overlap[0, 2] == pytest.approx(right_overlap(moved[0]["w"], moved[2]["w"], 2))
    assert found.overlap[2, 2] == pytest.approx(1)


def test_units_in_another_order_change_no_measure():
    rng = torch.Generator().manual_seed(2)
    members = [shifted(BASE, w=torch.randn(4, 6, generator=rng)) for _ in range(3)]
    order = torch.tensor([2, 0, 3, 1])
    turned = [{**m, "w": m["w"][order], "b": m["b"][order]} for m in (*members, BASE)]
    one, other = interference(members, BASE), interference(turned[:3], turned[3])
    for name in ("cosine", "conflict", "overlap", "layers"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_members_that_are_their_base_have_no_measures():
    found = interference([BASE, BASE], BASE)
    assert found.names == ()
    assert torch.isnan(found.cosine).all()
    still = interference([BASE, shifted(BASE, b=torch.ones(4))], BASE)
    assert math.isnan(still.cosine[0, 1])
    with pytest.raises(ValueError, match="got 0 members and rank 4"):
        interference([], BASE)
    with pytest.raises(ValueError, match="w: "):
        interference([{"w": torch.ones(2, 2), "b": BASE["b"], "steps": BASE["steps"]}], BASE)


def test_input_gradients_of_linear_losses_are_their_weights():
    model = nn.Linear(3, 1, bias=False)
    members = [{"weight": torch.tensor([w])} for w in ([1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0])]
    found = input_gradient_distances(
        members, lambda theta, x: call(model, theta, x).sum(), torch.ones(5, 3)
    )
    root = 2**0.5
    golden = torch.tensor([[0, root, 0], [root, 0, root], [0, root, 0]], dtype=torch.float64)
    torch.testing.assert_close(found, golden)
    with pytest.raises(ValueError, match=r"inputs are torch\.int64"):
        input_gradient_distances(members, lambda _, x: x.sum(), torch.ones(2, 3).long())


def test_a_report_has_the_lines_from_the_result_to_each_parent():
    model = nn.Linear(2, 2)
    a = from_module(model)
    b = {name: -t for name, t in a.items()}
    merged = lerp(a, b, 0.5)

    def evaluate(theta):
        return float(theta["weight"].square().sum()), 1.0

    found = merge_report({"a": a, "b": b}, merged, base=merged, evaluate=evaluate, points=3)
    assert [*found.paths] == ["to a", "to b"]
    assert found.paths["to a"].loss[0] == 0
    assert found.paths["to b"].loss[-1] == pytest.approx(evaluate(b)[0])
    assert found.interference.cosine[0, 1] == pytest.approx(-1)
    assert found.interference.conflict[0, 1] == 1
    assert merge_report({"a": a, "b": b}, merged).paths == {}
