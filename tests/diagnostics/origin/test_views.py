"""Permuted copies are found after alignment; what the views are, and what background is for."""

import pytest
import torch

from wsl.diagnostics import agreement, common_origin, rank_p
from wsl.diagnostics.origin.sites import unit_sites
from wsl.diagnostics.origin.views import split
from wsl.symmetry import Permutation, PermutationSpec

GATED = PermutationSpec.parse("f = 60\ngate: f 16\nup: f 16\ndown: 16 f")


def drawn(seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in GATED.shapes.items()}


def hidden(theta, noise, seed):
    """The weights with noise, their units in a random order."""
    rng = torch.Generator().manual_seed(seed)
    noisy = {n: t + noise * torch.randn(t.shape, generator=rng) for n, t in theta.items()}
    return Permutation.random(GATED, rng)(noisy)


def test_a_permuted_and_disturbed_copy_is_found_where_fixed_points_are_blind():
    a, b = drawn(0), hidden(drawn(0), 0.3, seed=1)
    assert common_origin(GATED, a, b).log10_p > -3
    found = agreement(GATED, a, b)
    assert found.groups["f"].agreed == 60
    assert found.share == 1
    assert found.cosine == pytest.approx((1 + 0.3**2) ** -0.5, abs=0.02)


def test_the_views_do_not_change_when_b_is_relabelled():
    a, b = drawn(0), drawn(1)
    moved = Permutation.random(GATED, torch.Generator().manual_seed(5))(b)
    one, other = agreement(GATED, a, b), agreement(GATED, a, moved)
    assert one.groups["f"].agreed == other.groups["f"].agreed
    assert one.cosine == pytest.approx(other.cosine, abs=1e-6)


def test_gate_and_up_are_views_of_about_equal_size_without_a_common_place():
    sites = unit_sites(GATED, list(GATED.axes))["f"]
    first, second = split(sites)
    names = [{site.piece.tensor for site in view} for view in (first, second)]
    assert names == [{"gate", "down"}, {"up"}]


def test_a_group_with_a_single_place_has_no_two_views():
    spec = PermutationSpec.parse("h = 4\nw: h 3")
    theta = {"w": torch.randn(4, 3)}
    found = agreement(spec, theta, theta)
    assert (dict(found.groups), found.share, found.cosine) == ({}, 0, 0)


def test_against_background_an_unrelated_network_is_one_of_many_and_a_copy_is_not():
    a = drawn(0)
    background = [agreement(GATED, a, drawn(seed)).share for seed in range(10, 19)]
    assert rank_p(agreement(GATED, a, hidden(a, 0.5, seed=1)).share, background) == 1 / 10
    assert rank_p(agreement(GATED, a, drawn(7)).share, background) > 1 / 10
    assert rank_p(0.9, []) == 1
