"""The same for every arm: statistics of batch norm, and the best few of as many draws."""

import dataclasses
import functools

import pytest
import torch
from planted import Planted, data, rng
from torch import nn
from torch.nn import functional as F

from wsl.connectivity import reset_batch_norm
from wsl.generative import (
    DefaultStart,
    GeneratedStart,
    InterpolationStart,
    MeanStart,
    NoiseStart,
    Recalibration,
    RetrievalStart,
    Start,
    TaskTrial,
    TrainingMembers,
    Trial,
    judge,
    starting_weights,
    trial,
)
from wsl.generative.judge.drawing import drawn_arms
from wsl.params import unstack
from wsl.populations import (
    AdamW,
    Examples,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    initial_population,
    train_population,
)
from wsl.symmetry import permutation_spec

COUNT, N = 6, 3
ARMS = {
    "default_init": DefaultStart(),
    "retrieval": RetrievalStart(),
    "noise": NoiseStart(0.5),
    "mean": MeanStart(),
    "interpolation": InterpolationStart(),
}
TRAINING = {"steps": 1, "lrs": (1e-3,)}


def make():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10)
    )


@functools.cache
def members():
    """Networks with batch norm, trained for a moment."""
    every = torch.ones(COUNT)
    batches = SampledBatches(
        *data().train, seeds=torch.arange(COUNT), batch_size=32, fraction=every
    )
    params = train_population(
        make(),
        initial_population(make, range(COUNT)),
        F.cross_entropy,
        batches=batches,
        members=MemberSettings(lr=5e-3 * every, weight_decay=0 * every),
        shared=SharedSettings(optimizer=AdamW(), steps=60),
    ).snapshots[-1]
    # as large a scale before batch norm as one likes does the same; averages mix these up
    scale = torch.tensor([1.0, 0.3, 3.0] * (COUNT // 3))
    for name, power in (
        ("1.weight", 1),
        ("1.bias", 1),
        ("2.running_mean", 1),
        ("2.running_var", 2),
    ):
        tensor = params[name]
        params[name] = tensor * scale.view(-1, *[1] * (tensor.dim() - 1)) ** power
    accuracy = data().evaluate(make(), params, "val")["accuracy"]
    return TrainingMembers(params, accuracy[:, None], model=make(), inputs=data().train.images)


def start(*, recalibrate):
    """A generator that draws members, which measures batch norm or does not."""
    known = members()
    spec = permutation_spec(make().eval(), data().test.images[:2])
    blank = Start(make(), spec, make=make, members=known, good=dict(known.params), condition=0.9)
    fitted = Planted(lambda n, *_: known.rows(torch.arange(n)))
    fitted.spec, fitted.canonicalizer = spec, blank.canonicalizer
    fitted.recalibration = Recalibration().fit(make(), known.inputs) if recalibrate else None
    return dataclasses.replace(blank, fitted=fitted)


def drawn(asked):
    arms = {"generated": GeneratedStart(), **ARMS}
    found, left_out = drawn_arms(asked, arms, N)
    assert not left_out
    return found


def reset(params):
    """Batch norm of each network as a pass over the training inputs finds it."""
    batches = data().train.images[:1024].split(256)
    return [reset_batch_norm(make(), theta, batches) for theta in unstack(params)]


def test_every_arm_is_recalibrated_on_the_generators_inputs():
    measured, plain = (drawn(start(recalibrate=how)) for how in (True, False))
    for name in measured:
        for theta, expected in zip(unstack(measured[name]), reset(plain[name]), strict=True):
            assert all(torch.equal(theta[key], expected[key]) for key in theta), name


def test_a_soup_of_networks_with_batch_norm_scores_as_if_it_were_reset():
    asked = start(recalibrate=True)
    found = judge(asked, {"mean": MeanStart()}, data(), n=N, shortlist=2, training=TRAINING)
    soup = starting_weights(MeanStart(), asked, N, generator=rng(asked.seed))
    again = {k: torch.stack([t[k] for t in reset(soup)]) for k in soup}
    expected = data().evaluate(make(), again, "test")["accuracy"]
    torch.testing.assert_close(found.trials["mean"].drawn, expected)
    as_averaged = data().evaluate(make(), soup, "test")["accuracy"]
    assert not torch.equal(expected, as_averaged)


def test_noise_at_equal_novelty_is_recalibrated_too_and_nothing_is_where_the_generator_is_not():
    found = {}
    for how in (True, False):
        judged = judge(start(recalibrate=how), {}, data(), n=N, shortlist=2, training=TRAINING)
        found[how] = judged.trials["noise_at_equal_novelty"].drawn
    assert not torch.equal(found[True], found[False])
    plain = drawn(start(recalibrate=False))["retrieval"]
    rows = [
        [torch.equal(t, m) for m in members().params["2.running_mean"]]
        for t in plain["2.running_mean"]
    ]
    assert all(any(row) for row in rows)


# the best k of n


def planted_trial():
    """Four networks; those that do best on validation images do worst on test images."""
    test, val = torch.tensor([0.9, 0.8, 0.5, 0.4]), torch.tensor([0.1, 0.2, 0.9, 0.9])
    return Trial(test, test, 1e-3, validated=val)


def test_the_best_are_chosen_by_validation_images_though_test_images_would_flatter():
    found = planted_trial()
    assert found.best(2).tolist() == pytest.approx([0.5, 0.4])
    assert found.best(1).tolist() == [0.5]  # of equals the first
    flattering = found.drawn.topk(2).values.mean()
    assert found.best(2).mean() < found.drawn.mean() < flattering
    assert torch.equal(found.best(4).sort().values, found.drawn.sort().values)


@pytest.mark.parametrize("k", [0, 5])
def test_more_than_were_drawn_are_refused(k):
    with pytest.raises(ValueError, match=f"best: {k} of 4 networks; give 1 to 4"):
        planted_trial().best(k)


def test_nothing_is_chosen_by_the_images_that_score():
    same = dataclasses.replace(data(), val=Examples(*data().test))
    found = trial(make(), {"members": members().params}, same, **TRAINING)["members"]
    with pytest.raises(ValueError, match="those that score, and these may not choose"):
        found.best(2)
    apart = trial(make(), {"members": members().params}, data(), **TRAINING)["members"]
    assert torch.equal(
        apart.validated, data().evaluate(make(), members().params, "val")["accuracy"]
    )


def test_every_arm_gets_the_same_k_of_as_many_draws():
    asked = start(recalibrate=False)
    judged = judge(asked, {"noise": NoiseStart(0.3)}, data(), n=N, shortlist=2, training=TRAINING)
    best = judged.best(2)
    assert set(best) == {"generated", "noise", "noise_at_equal_novelty"}
    assert all(len(values) == 2 for values in best.values())
    fewer = {**judged.trials, "few": Trial(torch.ones(1), torch.ones(1), 1.0, torch.ones(1))}
    assert "few" not in dataclasses.replace(judged, trials=fewer).best(2)
    assert judged.scores["accuracy_as_drawn"] == float(judged.trials["generated"].drawn.mean())


def test_of_a_task_the_best_seeds_are_those_of_the_half_that_chooses():
    accuracy = torch.tensor([[[0.9, 1.0], [0.1, 1.0]], [[0.3, 1.0], [0.7, 1.0]]])
    found = TaskTrial(accuracy, (0, 1), 1e-3, validated=torch.tensor([[0.2, 0.1], [0.5, 0.6]]))
    assert found.best(1).tolist() == pytest.approx([0.3, 0.7])
    torch.testing.assert_close(found.best(2), found.drawn)
    with pytest.raises(ValueError, match="give 1 to 2"):
        found.best(3)
