"""The golden recipe, planted merges, and what is no merge."""

import pytest
import torch

from wsl.diagnostics import merge_recipe


def vector(*values):
    return {"w": torch.tensor(values)}


def drawn(seed, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    return {f"{k}.weight": scale * torch.randn(30, 20, generator=rng) for k in range(3)}


def added(*terms):
    return {name: sum(scale * theta[name] for scale, theta in terms) for name in terms[0][1]}


def test_the_golden_recipe():
    base, one, two = vector(0.0, 0, 0), vector(1.0, 0, 0), vector(0.0, 1, 0)
    found = merge_recipe(vector(0.3, 0.6, 0.1), [base, one, two])
    assert found.whole.weights == pytest.approx((0.1, 0.3, 0.6), abs=1e-7)
    assert found.whole.rss == pytest.approx(0.01, abs=1e-7)
    assert found.whole.best_single == pytest.approx(0.26, abs=1e-6)
    assert found.gain == pytest.approx(0.96154, abs=5e-6)
    assert found.called


def test_weights_by_layer_are_found_tensor_by_tensor():
    base = drawn(0)
    parents = [added((1, base), (1, drawn(seed, 0.1))) for seed in (1, 2)]
    shares = (0.2, 0.5, 0.9)
    merged = {
        name: share * parents[0][name] + (1 - share) * parents[1][name]
        for share, name in zip(shares, base, strict=True)
    }
    found = merge_recipe(merged, parents)
    weights = [fit.weights[0] for fit in found.by_tensor.values()]
    assert weights == pytest.approx(shares, abs=1e-5)
    assert found.gain == pytest.approx(1, abs=1e-6)
    assert found.gain > found.whole.gain
    assert found.called


@pytest.mark.parametrize("count", [2, 3, 7])
def test_siblings_of_one_base_are_no_merge_of_each_other(count):
    base = drawn(0)
    siblings = [added((1, base), (1, drawn(seed, 0.1))) for seed in range(1, count + 2)]
    found = merge_recipe(siblings[0], siblings[1:])
    assert found.gain == pytest.approx((count - 1) / (2 * count), abs=0.02)
    assert found.chance == (count - 1) / (2 * count)
    assert found.is_mean
    assert not found.called


def test_a_noisy_merge_is_called():
    parents = [drawn(1), drawn(2)]
    merged = added((0.5, parents[0]), (0.5, parents[1]), (0.3, drawn(3)))
    found = merge_recipe(merged, parents)
    assert found.whole.weights == pytest.approx((0.5, 0.5), abs=0.05)
    assert found.gain > 0.8
    assert found.called


def test_a_relation_with_weights_beyond_0_and_1_is_not_called_a_mean():
    x, y = drawn(1), drawn(2)
    found = merge_recipe(added((2, x), (-1, y)), [x, y])
    assert found.whole.weights == pytest.approx((2, -1), abs=1e-5)
    assert (found.is_mean, found.called) == (False, False)


def test_a_member_itself_and_equal_members_are_no_merge():
    x, y = drawn(1), drawn(2)
    found = merge_recipe(x, [y, x])
    assert (found.whole.weights, found.gain, found.called) == ((0, 1), 0, False)
    twice = merge_recipe(added((0.5, x), (0.5, y)), [x, y, y])
    assert twice.whole.weights == pytest.approx((0.5, 0.25, 0.25), abs=1e-5)


def test_one_member_is_refused():
    with pytest.raises(ValueError, match="1 members, but at least two are needed"):
        merge_recipe(drawn(0), [drawn(1)])
