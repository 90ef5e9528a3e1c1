"""Straight-through estimation lowers the loss half way, from weight matching on."""

import pytest
import torch
from laws.matchers import SPEC, batches, loss, weights

from wsl.matching import STEMatching, match
from wsl.symmetry import Permutation


def middle(a, b):
    return float(loss({name: (tensor + b[name]) / 2 for name, tensor in a.items()}, batches()[0]))


@pytest.mark.parametrize("random", [False, True])
def test_it_lowers_the_loss_half_way_below_that_of_weight_matching(random):
    gained = 0
    for seed in range(1, 4):
        a, b = weights(0), weights(seed)
        settings = {"learning_rate": 0.3, "epochs": 8, "random": random}
        found = match(SPEC, a, b, STEMatching(loss, batches(), **settings))
        assert found.objective == pytest.approx(-middle(a, found(b)), rel=1e-5)
        assert -found.objective <= middle(a, match(SPEC, a, b)(b)) + 1e-6
        assert len(found.trace) == 9
        gained += -found.objective < middle(a, match(SPEC, a, b)(b)) - 1e-4
    assert gained >= 1


def test_without_epochs_it_is_weight_matching():
    a, b = weights(0), weights(1)
    found = match(SPEC, a, b, STEMatching(loss, batches(), epochs=0))
    assert found.permutation == match(SPEC, a, b).permutation
    assert found.converged


def test_a_planted_network_stays_found():
    a = weights(0)
    g = Permutation.random(SPEC, torch.Generator().manual_seed(3))
    found = match(SPEC, a, g(a), STEMatching(loss, batches(), epochs=3))
    assert found.permutation == ~g
    assert found.objective == pytest.approx(0, abs=1e-10)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="STEMatching: got 0 batches and 10 epochs; at least one"):
        STEMatching(loss, [])
