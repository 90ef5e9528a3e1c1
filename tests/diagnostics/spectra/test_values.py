"""Ranks of matrices whose spectra are known, and the rule that cuts them."""

import math

import pytest
import torch

from wsl.diagnostics import (
    MatrixSpectrum,
    NetworkSpectra,
    energy_rank,
    entropy_rank,
    koopman_factors,
    network_spectra,
    welore_ranks,
)


def planted(values, rows, columns, seed=0):
    """A matrix with these singular values."""
    rng = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, rows, generator=rng, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(columns, columns, generator=rng, dtype=torch.float64)).Q
    s = torch.tensor(values, dtype=torch.float64)
    return u[:, : len(s)] * s @ v[:, : len(s)].mT


def test_effective_rank_at_sixty_degrees_is_the_golden_value():
    pair = torch.tensor([[1.0, 0.0], [math.cos(math.pi / 3), math.sin(math.pi / 3)]])
    found = network_spectra({"w": pair})["w"]
    assert found.effective_rank == pytest.approx(1.92862, abs=2e-5)
    assert found.values.square().tolist() == pytest.approx([1.5, 0.5])
    assert found.stable_rank == pytest.approx(4 / 3)
    assert found.condition == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("values", "effective", "stable", "rank"),
    [
        ([1.0, 1.0, 1.0], 3, 3, 3),
        ([2.0, 0.0, 0.0], 1, 1, 1),
        ([3.0, 1.0, 0.0], 1.75477, 10 / 9, 2),
        ([0.0, 0.0, 0.0], 0, 0, 0),
    ],
)
def test_ranks_are_those_of_the_planted_spectrum(values, effective, stable, rank):
    found = network_spectra({"w": planted(values, 3, 5)})["w"]
    assert found.effective_rank == pytest.approx(effective, abs=1e-5)
    assert found.stable_rank == pytest.approx(stable)
    assert found.rank == rank
    assert (found.condition == float("inf")) == (rank < 3)


def test_ranks_do_not_depend_on_scale_and_rotation():
    w = planted([5.0, 2.0, 1.0], 4, 3)
    turned = planted([0.5, 0.2, 0.1], 4, 3, seed=1)
    one, other = (network_spectra({"w": each})["w"] for each in (w, turned))
    assert one.effective_rank == pytest.approx(other.effective_rank)
    assert one.stable_rank == pytest.approx(other.stable_rank)


def test_a_convolution_is_a_matrix_of_its_units_and_vectors_have_no_spectrum():
    conv = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = network_spectra(
        {
            "conv.weight": conv,
            "conv.bias": torch.ones(4),
            "bn.num_batches_tracked": torch.tensor(3),
            "mask": torch.ones(2, 2, dtype=torch.bool),
        }
    )
    assert [*found.each] == ["conv.weight"]
    assert found["conv.weight"].shape == (4, 12)
    golden = torch.linalg.svdvals(conv.double().flatten(1))
    assert torch.equal(found["conv.weight"].values, golden)


def test_complex_and_half_precision_matrices_have_spectra():
    found = network_spectra(
        {"c": torch.eye(2, dtype=torch.complex64) * 1j, "h": torch.eye(2, dtype=torch.bfloat16)}
    )
    assert found["c"].values.tolist() == pytest.approx([1, 1])
    assert found["h"].effective_rank == pytest.approx(2)


def test_energy_rank_is_the_fewest_that_hold_the_share():
    energies = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert [energy_rank(energies, share) for share in (0.1, 0.4, 0.41, 0.7, 0.95, 1)] == [
        1,
        1,
        2,
        2,
        4,
        4,
    ]
    assert energy_rank(torch.zeros(3), 0.5) == 0
    with pytest.raises(ValueError, match="above 0 and at most 1, got 2"):
        energy_rank(energies, 2)
    assert entropy_rank(torch.zeros(2)) == 0


def spectra_of(**values):
    return NetworkSpectra(
        {
            name: MatrixSpectrum(name, (len(v), len(v)), torch.tensor(v, dtype=torch.float64))
            for name, v in values.items()
        }
    )


def test_one_threshold_cuts_a_flat_spectrum_least():
    flat, steep = [10.0, 9.0, 8.0, 7.0], [10.0, 1.0, 0.5, 0.1]
    found = welore_ranks(spectra_of(flat=flat, steep=steep), 3 / 8)
    assert found.ranks == {"flat": 4, "steep": 1}
    assert found.threshold == pytest.approx(0.7)
    assert found.low == ("steep",)
    assert found.reduction == 3 / 8
    assert welore_ranks(spectra_of(flat=flat, steep=steep), 0).ranks == {"flat": 4, "steep": 4}


def test_the_threshold_does_not_see_the_scale_of_a_matrix():
    steep = [1.0, 0.1, 0.05]
    scaled = [each * 1000 for each in steep]
    found = welore_ranks(spectra_of(a=steep, b=scaled), 0.5)
    assert found.ranks["a"] == found.ranks["b"]


def test_reductions_out_of_range_and_networks_without_matrices_are_refused():
    with pytest.raises(ValueError, match="reduction is 1; from 0 on and below 1"):
        welore_ranks(spectra_of(a=[1.0]), 1)
    with pytest.raises(ValueError, match="has no matrix"):
        welore_ranks(network_spectra({"b": torch.ones(3)}), 0.5)


@pytest.mark.parametrize("width", [3, 30])
def test_the_koopman_factor_of_an_orthogonal_weight_is_one_at_any_width(width):
    w = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
    (found,) = koopman_factors({"w": w}).values()
    assert found.log10 == pytest.approx(0, abs=1e-4)
    assert found.condition == pytest.approx(1, abs=1e-4)
    assert found.injective


def test_the_koopman_factor_is_norm_against_determinant():
    (found,) = koopman_factors({"w": torch.diag(torch.tensor([4.0, 1.0]))}, smoothness=2).values()
    assert found.log10 == pytest.approx(2 * math.log10(4) - 0.5 * math.log10(4))
    (small,) = koopman_factors({"w": torch.eye(2) / 100}, smoothness=2).values()
    assert small.log10 == pytest.approx(2)  # a norm below one does not help: max(1, |W|)
    (wide,) = koopman_factors({"w": torch.eye(3)[:2]}).values()
    assert not wide.injective
    assert wide.log10 == pytest.approx(0)


def test_the_koopman_factor_bounds_the_operator_on_a_gaussian():
    """|f(W .)|_{H^s} <= factor |f|_{H^s} in two dimensions, by quadrature over frequencies."""
    w, s = torch.tensor([[2.0, 0.5], [0.0, 0.5]], dtype=torch.float64), 2.0
    grid = torch.linspace(-12, 12, 241, dtype=torch.float64)
    xi = torch.cartesian_prod(grid, grid)
    weight = (1 + xi.square().sum(1)) ** s
    power = torch.exp(-xi.square().sum(1))  # |f^|^2 of a Gaussian
    moved = xi @ torch.linalg.inv(w)  # W^{-T} xi, row by row
    composed = torch.exp(-moved.square().sum(1)) / torch.linalg.det(w).square()
    ratio = float(((composed * weight).sum() / (power * weight).sum()).sqrt())
    (found,) = koopman_factors({"w": w}, smoothness=s).values()
    assert ratio <= 10**found.log10
    assert ratio > 0.05 * 10**found.log10


def test_a_weight_of_zeros_has_no_koopman_bound():
    with pytest.raises(ValueError, match="w: all entries are zero"):
        koopman_factors({"w": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="smoothness is 0, but must be positive"):
        koopman_factors({"w": torch.eye(2)}, smoothness=0)
