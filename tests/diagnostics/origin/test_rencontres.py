"""The law of rencontres against counting all permutations, and the golden tails."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import poisson

from wsl.diagnostics.origin.rencontres import log_law, log_tail


def counted(n, copies=1):
    """How many of all (n!)^copies choices have k fixed points, for each k."""
    one = [sum(i == v for i, v in enumerate(order)) for order in itertools.permutations(range(n))]
    sums = [sum(choice) for choice in itertools.product(one, repeat=copies)]
    return np.bincount(sums, minlength=n * copies + 1)


def test_of_four_units_nine_eight_six_none_and_one_permutation_fix_so_many():
    assert (np.exp(log_law(4)) * 24).round(12).tolist() == [9, 8, 6, 0, 1]
    tails = [math.exp(log_tail(4, k)) for k in (1, 2, 4)]
    assert tails == pytest.approx([0.625, 7 / 24, 1 / 24], rel=1e-13)


@pytest.mark.parametrize("n", range(1, 8))
def test_the_law_is_the_count_over_all_permutations(n):
    assert np.exp(log_law(n)) * math.factorial(n) == pytest.approx(counted(n), abs=1e-9)


@pytest.mark.parametrize(("n", "copies"), [(1, 3), (2, 5), (3, 3), (4, 2)])
def test_a_family_has_the_law_of_the_sum(n, copies):
    every = math.factorial(n) ** copies
    assert np.exp(log_law(n, copies)) * every == pytest.approx(counted(n, copies), abs=1e-9)


def test_golden_tails():
    assert math.exp(log_tail(8, 3)) == pytest.approx(0.080233, abs=5e-7)
    for least, golden in ((3, 0.080301), (5, 0.0036598), (10, 1.11426e-7)):
        assert math.exp(log_tail(512, least)) == pytest.approx(golden, rel=2e-5)
        assert math.exp(log_tail(512, least)) == pytest.approx(poisson.sf(least - 1, 1), rel=1e-9)


def test_all_units_in_place_is_one_in_n_factorial_and_does_not_underflow():
    assert log_tail(4096, 4096) == pytest.approx(-math.lgamma(4097), rel=1e-12)
    assert log_tail(128, 128 * 32, copies=32) == pytest.approx(-32 * math.lgamma(129), rel=1e-10)


def test_tails_start_at_certainty_and_end_at_nothing():
    assert (log_tail(5, 0), log_tail(5, -2), log_tail(5, 6)) == (0.0, 0.0, -math.inf)
    assert log_tail(1, 1) == 0.0
    assert np.exp(log_law(7, 6)).sum() == pytest.approx(1, abs=1e-12)


def test_a_law_of_no_units_is_refused():
    with pytest.raises(ValueError, match="size is 0 and copies is 1, but both must be at least 1"):
        log_law(0)
