"""Closed forms inside a head: golden values, planted matrices, and local optimality."""

import math

import pytest
import torch

from wsl.matching.solvers import best_map, best_rotation
from wsl.matching.solvers.gauges import (
    Grams,
    centred_procrustes,
    cost,
    general,
    phases,
    procrustes,
    stretched_phases,
)
from wsl.symmetry import LinearMaps, PermutationSpec, centred_basis


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vectors(z):
    """Complex numbers (columns,) of one frequency, as real vectors (1, 1, 2, columns)."""
    return torch.stack([z.real, z.imag])[None, None]


@pytest.mark.parametrize("form", ["half", "interleaved"])
def test_the_phase_of_the_published_example_is_sixty_degrees_of_modulus_twelve(form):
    c = torch.polar(*torch.tensor([1, math.pi / 3], dtype=torch.float64))
    q = torch.tensor([1 + 2j, 1j], dtype=torch.complex128)
    k = torch.tensor([2 - 1j, 1], dtype=torch.complex128)
    spec = PermutationSpec.parse(f"q: 2 2\nk: 2 2\nrotation {form}: q[0] / k[0]")
    mine, theirs = [(vectors(x), vectors(y)) for x, y in ((q, k), (q / c, k / c))]
    total = (q * (q / c).conj()).sum() + (k * (k / c).conj()).sum()
    assert math.isclose(float(total.abs()), 12, rel_tol=1e-12)
    assert math.isclose(math.degrees(float(total.angle())), 60, rel_tol=1e-12)
    pairs = zip(mine, theirs, strict=True)
    found = best_rotation(spec.units[0], *pairs)
    torch.testing.assert_close(found, c.view(1, 1))


@pytest.mark.parametrize("form", ["half", "interleaved"])
def test_one_number_serves_all_queries_of_a_head_of_keys(form):
    text = f"n = 2, g = 3 per n\nq: (n g 4) 5\nk: (n 4) 5\nrotation n {form}: q[0,0,2] / k[0,0,1]"
    spec = PermutationSpec.parse(text)
    unit = spec.units[0]
    a = {"q": draw(24, 5), "k": draw(8, 5, seed=1)}
    c = torch.polar(torch.ones(2, 2), draw(2, 2, seed=2).float()).to(torch.complex128)
    b = (~LinearMaps(spec, (c,)))(a)
    shaped = [(theta["q"].view(2, 3, 4, 5), theta["k"].view(2, 1, 4, 5)) for theta in (a, b)]
    torch.testing.assert_close(best_map(unit, *shaped, gauge="orthogonal"), c)
    stretched = LinearMaps(spec, (c * (1.5 + 0.3j),))
    b = (~stretched)(a)
    shaped[1] = (b["q"].view(2, 3, 4, 5), b["k"].view(2, 1, 4, 5))
    torch.testing.assert_close(best_map(unit, *shaped, gauge="general"), stretched.values[0])


def test_procrustes_finds_planted_rotations_and_leaves_nothing_where_nothing_is():
    turn = torch.linalg.qr(draw(3, 4, 4))[0]
    x = draw(3, 4, 9, seed=1)
    torch.testing.assert_close(procrustes((turn @ x) @ x.mT), turn)
    torch.testing.assert_close(procrustes(torch.zeros(2, 3, 3)), torch.eye(3).expand(2, 3, 3))
    assert phases(torch.zeros(2, dtype=torch.complex128)).tolist() == [1, 1]


def test_centred_procrustes_finds_planted_rotations_that_keep_the_ones():
    spec = PermutationSpec.parse("h = 5\nw: 9 h\northogonal h centred: w[1]")
    turn = LinearMaps.random(spec, torch.Generator().manual_seed(0)).values[0]
    x = draw(5, 9)
    found = centred_procrustes((turn @ x) @ x.mT, centred_basis(5))
    torch.testing.assert_close(found, turn)
    torch.testing.assert_close(found.sum(0), torch.ones(5, dtype=torch.float64))


def test_general_matrices_are_found_exactly_without_noise():
    matrix = torch.eye(4, dtype=torch.float64) + 0.6 * draw(6, 4, 4)
    x, y = draw(6, 4, 9, seed=1), draw(6, 4, 7, seed=2)
    moved = matrix @ x, torch.linalg.inv(matrix).mT @ y
    found = general(Grams.of((moved[0], x), (moved[1], y)))
    torch.testing.assert_close(found, matrix)


def test_general_matrices_of_noisy_pairs_are_stationary_and_beat_orthogonal_ones():
    matrix = torch.eye(4, dtype=torch.float64) + 0.4 * draw(6, 4, 4)
    x, y = draw(6, 4, 9, seed=1), draw(6, 4, 7, seed=2)
    moved = matrix @ x, torch.linalg.inv(matrix).mT @ y
    x = (moved[0] + 0.3 * draw(6, 4, 9, seed=3), x)
    y = (moved[1] + 0.3 * draw(6, 4, 7, seed=4), y)
    grams = Grams.of(x, y)
    found = general(grams).requires_grad_()
    total = cost(grams, found)
    (gradient,) = torch.autograd.grad(total.sum(), found)
    assert gradient.abs().max() < 1e-3 * grams.xx.max()
    assert (total <= cost(grams, procrustes(grams.x + grams.y)) + 1e-9).all()
    exact = (x[0] - found @ x[1]).square().sum((1, 2)) + (
        y[0] - torch.linalg.inv(found).mT @ y[1]
    ).square().sum((1, 2))
    constant = x[0].square().sum((1, 2)) + y[0].square().sum((1, 2))
    torch.testing.assert_close(total + constant, exact)


def test_stretched_phases_are_the_best_on_a_grid():
    z = torch.view_as_complex(draw(4, 6, 2))
    q_a, q_b, k_a, k_b = z
    products = [(q_a * q_b.conj()).sum()[None], (k_a * k_b.conj()).sum()[None]]
    sizes = [q_b.abs().square().sum()[None], k_b.abs().square().sum()[None]]
    found = stretched_phases(products, sizes)[0]

    def worth(c):
        return (q_a - c * q_b).abs().square().sum() + (k_a - k_b / c.conj()).abs().square().sum()

    grid = [
        worth(torch.polar(torch.tensor(r), torch.tensor(t)).to(torch.complex128))
        for r in torch.linspace(0.3, 3, 60).tolist()
        for t in torch.linspace(0, 2 * math.pi, 90).tolist()
    ]
    assert worth(found) <= min(grid) + 1e-9
