"""Golden values of Fisher's test, and what must not be taken for independent."""

import math

import pytest
from scipy.stats import combine_pvalues

from wsl.diagnostics.origin.combine import colours, log_bonferroni, log_combined, log_fisher


def fisher(*ps):
    return math.exp(log_fisher([math.log(p) for p in ps]))


def test_golden_values():
    assert fisher(1 / 24, 1 / 24, 1 / 24) == pytest.approx(0.0040498, abs=5e-8)
    assert fisher(0.05, 0.05) == pytest.approx(0.017479, abs=5e-7)


def test_it_is_the_test_of_scipy():
    ps = [0.3, 0.004, 0.77, 1.0]
    assert fisher(*ps) == pytest.approx(combine_pvalues(ps).pvalue, rel=1e-12)


def test_one_test_stays_what_it_is_and_none_says_nothing():
    assert fisher(0.2) == pytest.approx(0.2)
    assert (log_fisher([]), log_bonferroni([]), log_fisher([0.0, 0.0])) == (0.0, 0.0, 0.0)


def test_values_below_the_smallest_float_are_combined():
    assert log_fisher([-5000.0, -7000.0]) == pytest.approx(-12000 + math.log(12001), rel=1e-12)
    assert log_fisher([-math.inf, -1.0]) == -math.inf


def test_neighbours_that_share_a_tensor_differ_in_colour():
    chain = {"h1": "ab", "h2": "bc", "h3": "cd", "h4": "de"}
    assert colours(chain) == (("h1", "h3"), ("h2", "h4"))
    assert colours({"s": "abc", "x": "a", "y": "b", "z": "d"}) == (("s", "z"), ("x", "y"))


def test_the_same_test_twice_does_not_become_stronger():
    p = math.log(0.05)
    assert math.exp(log_combined({"h1": p, "h2": p}, {"h1": "a", "h2": "a"})) >= 0.05
    apart = math.exp(log_combined({"h1": p, "h2": p}, {"h1": "a", "h2": "b"}))
    assert apart == pytest.approx(0.017479, abs=5e-7)
