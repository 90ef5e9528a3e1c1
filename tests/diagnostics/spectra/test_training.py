"""Intrinsic dimension of the toy objective, and regimes of planted pairs."""

import pytest
import torch

from wsl.diagnostics import (
    PRUNING_REGIMES,
    SubspaceTraining,
    intrinsic_dimension,
    linear_cka,
    magnitude_pruned,
    pruning_regime,
)


def toy(theta):
    """Ten groups of a hundred numbers; group i has to sum to i."""
    return (theta["w"].view(10, 100).sum(1) - torch.arange(1.0, 11)).square().sum()


def test_the_toy_objective_of_the_paper_has_dimension_ten():
    found = intrinsic_dimension(
        toy,
        {"w": torch.zeros(1000), "steps": torch.tensor(3)},
        lambda theta: float((-toy(theta)).exp()),
        dimensions=[8, 9, 10],
        baseline=1.0,
        training=SubspaceTraining(steps=500, learning_rate=0.5),
    )
    assert found.dimension == 10
    assert found.scores[1] < 0.1
    assert found.scores[2] > 0.98


def test_training_stays_in_its_subspace_and_repeats():
    start = {"w": torch.ones(50), "n": torch.tensor(7)}
    train = SubspaceTraining(steps=5)
    ends = [train.train(lambda t: t["w"].square().sum(), start, 3) for _ in range(2)]
    assert torch.equal(ends[0]["w"], ends[1]["w"])
    assert torch.equal(ends[0]["n"], start["n"])
    moved = ends[0]["w"] - start["w"]
    directions = train._directions(50, 3)
    assert directions.norm(dim=0).tolist() == pytest.approx([1] * 3)
    rest = moved - directions @ torch.linalg.lstsq(directions, moved[:, None]).solution[:, 0]
    assert float(rest.norm()) < 1e-5
    assert float(moved.norm()) > 0
    assert torch.equal(start["w"], torch.ones(50))


def test_dimensions_that_cannot_be_are_refused_and_none_is_said():
    start = {"w": torch.ones(4)}
    with pytest.raises(ValueError, match="a subspace of 5 directions: from 1 to 4"):
        SubspaceTraining().train(lambda t: t["w"].sum(), start, 5)
    with pytest.raises(ValueError, match="no dimensions"):
        intrinsic_dimension(toy, start, lambda _: 0.0, dimensions=[], baseline=1)
    found = intrinsic_dimension(
        lambda t: t["w"].square().sum(),
        start,
        lambda _: 0.5,
        dimensions=[1, 2],
        baseline=1.0,
        training=SubspaceTraining(steps=1),
    )
    assert found.dimension is None


@pytest.mark.parametrize("density", [0.1, 0.5, 1])
def test_pruning_keeps_the_largest_entries_of_all_matrices_together(density):
    rng = torch.Generator().manual_seed(0)
    params = {"a": torch.randn(10, 10, generator=rng), "b": 9 * torch.randn(10, 10, generator=rng)}
    pruned, masks = magnitude_pruned({**params, "bias": torch.full((3,), 1e-9)}, density)
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert int(kept.sum()) == 200 * density
    every = torch.cat([t.abs().flatten() for t in params.values()])
    assert every[kept == 1].min() >= every[kept == 0].max() if density < 1 else True
    assert torch.equal(pruned["bias"], torch.full((3,), 1e-9))
    assert torch.equal(pruned["a"], params["a"] * masks["a"])


def test_cka_is_one_up_to_rotation_and_scale_and_small_for_others():
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.randn(500, 6, generator=rng) for _ in "xy")
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6, generator=rng)).Q + 2
    assert linear_cka(x, turned) == pytest.approx(1)
    assert linear_cka(x, y) < 0.05
    assert torch.isnan(torch.tensor(linear_cka(x, torch.ones(500, 2))))
    with pytest.raises(ValueError, match="outputs of 500 and of 3 inputs"):
        linear_cka(x, y[:3])


PAIRS = {
    "I": (1.0, -1.0, True),
    "II-A": (1.0, 1.1, False),
    "II-B": (1.0, 1.1, True),
}


@pytest.mark.parametrize("regime", PRUNING_REGIMES)
def test_every_regime_is_called_by_its_name(regime):
    a, b, same = PAIRS[regime]
    rng = torch.Generator().manual_seed(0)
    said = {a: torch.randn(100, 3, generator=rng), b: torch.randn(100, 3, generator=rng)}

    def outputs(theta):
        value = round(float(theta["w"]), 3)
        return said[a if same else value]

    found = pruning_regime(
        lambda theta: float((theta["w"] ** 2 - 1) ** 2),  # a double well
        outputs,
        ({"w": torch.tensor(a)}, {"w": torch.tensor(b)}),
    )
    assert found.regime == regime
    assert (found.barrier > 0.9) == (regime == "I")
    assert (found.cka > 0.9) == same


def test_bad_settings_of_pruning_are_refused():
    with pytest.raises(ValueError, match="density is 0"):
        magnitude_pruned({"w": torch.ones(2, 2)}, 0)
    pair = {"w": torch.ones(1)}, {"w": torch.ones(1)}
    with pytest.raises(ValueError, match="2 points on the line"):
        pruning_regime(lambda _: 0.0, lambda _: torch.ones(1, 1), pair, points=2)
