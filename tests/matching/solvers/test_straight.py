"""Permutations that act hard and are followed softly."""

import pytest
import torch
from attention_networks import LLAMA, Transformer, inputs

from wsl.matching import StraightPermutations, WeightMatching, folded_spec, free_groups, match
from wsl.matching.solvers.sinkhorn import apply_soft
from wsl.symmetry import Permutation, PermutationSpec, symmetry_spec, with_rotations

SPEC = PermutationSpec.parse(
    "h = 5\nk = 4\nin.weight: h 3\nin.bias: h\nmid.weight: k h\nout.weight: 2 k\nsteps:"
)


def drawn(seed):
    rng = torch.Generator().manual_seed(seed)
    shapes = {"in.weight": (5, 3), "in.bias": (5,), "mid.weight": (4, 5), "out.weight": (2, 4)}
    floats = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {**floats, "steps": torch.tensor(7)}


def straight(pull, names=("h", "k")):
    return StraightPermutations(SPEC, drawn(0), names, pull=pull)


def test_what_acts_is_a_permutation():
    orders, b = straight(1.0), drawn(1)
    moved = orders(b)
    assert orders.permutation != Permutation.identity(SPEC)
    for name, tensor in orders.permutation(b).items():
        torch.testing.assert_close(moved[name], tensor)


def test_the_gradient_is_that_of_the_matrix_that_acts():
    orders, b = straight(1.0), drawn(1)
    weigh = drawn(2)

    def loss(theta):
        parts = [(theta[name] * weigh[name]).sum() ** 2 for name in orders.a]
        return torch.stack(parts).sum()

    loss(orders(b)).backward()
    matrices = {
        name: torch.nn.functional.one_hot(index).float().requires_grad_()
        for name, index in orders.hard.items()
    }
    slopes = torch.autograd.grad(loss(apply_soft(SPEC, matrices, b)), list(matrices.values()))
    for move, slope in zip(orders.moves.values(), slopes, strict=True):
        torch.testing.assert_close(move.grad, slope)


def test_one_group_alone_is_what_weight_matching_takes():
    spec = PermutationSpec.parse("h = 5\nin.weight: h 3\nin.bias: h\nout.weight: 4 h")
    a, b = (
        {n.replace("mid", "out"): t for n, t in drawn(seed).items() if n[:3] in ("in.", "mid")}
        for seed in (0, 1)
    )
    orders = StraightPermutations(spec, a, ("h",))
    orders(b)
    assert orders.permutation == match(spec, a, b, WeightMatching()).permutation


def test_without_a_pull_the_order_stands_until_the_loss_moves_it():
    orders, b = straight(0.0), drawn(1)
    orders(b)
    assert orders.permutation == Permutation.identity(SPEC)
    with torch.no_grad():
        orders.moves["h"][0, 1] = orders.moves["h"][1, 0] = 2
    orders(b)
    assert orders.permutation.indices["h"].tolist() == [1, 0, 2, 3, 4]


def test_groups_that_are_not_named_stand_still():
    orders, b = straight(1.0, ("k",)), drawn(1)
    moved = orders(b)
    assert torch.equal(moved["in.weight"], b["in.weight"])
    assert not torch.equal(moved["out.weight"], b["out.weight"])
    assert torch.equal(orders.permutation.indices["h"], torch.arange(5))


def test_without_groups_nothing_moves():
    orders, b = straight(1.0, ()), drawn(1)
    assert all(torch.equal(tensor, b[name]) for name, tensor in orders(b).items())
    assert orders.permutation == Permutation.identity(SPEC)


@pytest.mark.slow
def test_heads_and_streams_that_turn_are_not_free():
    model, x = Transformer(LLAMA).eval(), inputs(LLAMA)
    spec = folded_spec(with_rotations(symmetry_spec(model, x), model, x))
    free = free_groups(spec)
    assert len(free) == 2
    assert {spec.groups[name] for name in free} == {LLAMA.hidden}
