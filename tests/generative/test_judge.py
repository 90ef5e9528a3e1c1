"""The judge names what was planted: a memoriser, a collapse, an ignored condition; honest networks
pass.
"""

import dataclasses
import math

import pytest
import torch
from laws.initializers import INITIALIZER_LAWS, Row
from planted import (
    Planted,
    attentive,
    data,
    fresh,
    make,
    memoriser,
    rng,
    shuffled,
    spec,
    start,
    trained,
)

from wsl.generative import (
    ARMS,
    CONDITION_ARMS,
    ArmComparison,
    DefaultStart,
    EqualNoveltyStart,
    InterpolationStart,
    NoiseStart,
    Novelty,
    RetrievalStart,
    Verdict,
    aligned_nearest,
    judge,
    max_iou,
    noise_baseline,
)
from wsl.matching import aligned_distance, nearest
from wsl.params import ravel, unstack

ARMS_HERE = {
    "default_init": DefaultStart(),
    "retrieval": RetrievalStart(),
    "noise": NoiseStart(0.2),
    "interpolation": InterpolationStart(),
    **{name: kind() for name, kind in CONDITION_ARMS.items()},
}
TRAINING = {"steps": 2, "lrs": (3e-3,)}
N = 8


def judged(answer, arms=ARMS_HERE):
    asked = dataclasses.replace(start(), fitted=Planted(answer))
    return judge(asked, arms, data(), n=N, shortlist=4, training=TRAINING)


@pytest.fixture(scope="module")
def of_memoriser():
    return judged(memoriser)


@pytest.fixture(scope="module")
def of_fresh():
    return judged(fresh)


@pytest.fixture(scope="module")
def of_attentive():
    return judged(attentive)


def test_permuted_training_checkpoints_are_called_a_memoriser(of_memoriser):
    assert f"{N} of {N} networks are copies" in of_memoriser.verdict.flags["memoriser"]
    assert of_memoriser.scores["nearest_member_distance"] < 1e-3
    assert of_memoriser.scores["max_iou"] == 1
    assert of_memoriser.scores["good_and_new"] == 0


def test_one_copy_among_new_networks_is_found(of_fresh):
    def partly(n, condition, generator):
        new, old = fresh(n, condition, generator), memoriser(1, condition, generator)
        return {name: torch.cat([old[name], tensor[1:]]) for name, tensor in new.items()}

    assert f"1 of {N} networks" in judged(partly, {}).verdict.flags["memoriser"]


def rescaled(n, condition, generator):
    """Members whose units are scaled: ReLU, so that they do the same with weights far apart."""
    old = memoriser(n, condition, generator)
    first, bias, second = (name for name in old if old[name].dim() > 2 or "0.bias" in name)
    by = torch.randn(n, 12, generator=generator).exp()
    return {
        **old,
        first: old[first] * by[:, :, None],
        bias: old[bias] * by,
        second: old[second] / by[:, None],
    }


def test_copies_with_scaled_units_are_copies_however_far_their_weights():
    found = judged(rescaled, {})
    assert f"{N} of {N} networks are copies" in found.verdict.flags["memoriser"]
    assert f"{N} of them in another guise" in found.verdict.flags["memoriser"]
    assert found.scores["nearest_member_distance"] > 1
    assert found.scores["good_and_new"] == 0


def test_one_scaled_copy_among_new_networks_is_found():
    def partly(n, condition, generator):
        new, old = fresh(n, condition, generator), rescaled(1, condition, generator)
        return {name: torch.cat([old[name], tensor[1:]]) for name, tensor in new.items()}

    assert f"1 of {N} networks" in judged(partly, {}).verdict.flags["memoriser"]


def test_freshly_trained_networks_pass(of_attentive):
    assert of_attentive.verdict.flags == {}
    assert "no flag" in str(of_attentive.verdict)
    scores = of_attentive.scores
    natural = scores["distance_between_good_members"]
    assert scores["nearest_member_distance"] == pytest.approx(natural, rel=0.1)
    assert scores["max_iou"] == pytest.approx(scores["max_iou_between_members"], abs=0.1)
    assert scores["dispersion_ratio"] == pytest.approx(1, abs=0.1)
    disagreement = scores["disagreement_between_members"]
    assert scores["disagreement_with_nearest_member"] == pytest.approx(disagreement, abs=0.2)


def test_fresh_networks_are_good_and_new_as_often_as_members_are(of_attentive):
    mine, theirs = (of_attentive.shares[name][1.0] for name in ("generated", "members"))
    assert 0.2 < mine <= 1
    assert mine == pytest.approx(theirs, abs=0.35)
    assert of_attentive.shares["retrieval"][1.0] == 0
    assert of_attentive.shares["generated"][6.0] == 0
    assert list(of_attentive.shares["generated"]) == [1, 2, 3, 4, 6]


def test_a_generator_that_ignores_its_condition_is_named_by_the_random_one(of_fresh, of_attentive):
    assert "a random one does as well" in of_fresh.verdict.flags["ignores its condition"]
    assert "ignores its condition" not in of_attentive.verdict.flags
    for arm in ("wrong_condition", "mean_condition"):
        assert of_attentive.verdict.against(arm, "accuracy as drawn").beaten


def test_one_network_drawn_again_and_again_has_collapsed():
    def again(n, condition, generator):
        one = fresh(1, condition, generator)
        noise = noise_baseline(one, n, scale=0.01, generator=generator)
        return {name: tensor.expand(n, *tensor.shape[1:]) * 1 for name, tensor in noise.items()}

    assert "below 0.8" in judged(again, {}).verdict.flags["collapse"]


def test_arms_of_conditions_are_left_out_where_none_is_read():
    asked = dataclasses.replace(start(), fitted=Planted(fresh, conditions=0))
    found = judge(asked, ARMS_HERE, data(), n=2, shortlist=2, training=TRAINING)
    assert set(found.left_out) == set(CONDITION_ARMS)
    assert "ignores its condition" not in found.verdict.flags


def test_the_verdict_says_which_arms_were_beaten_and_which_not(of_memoriser):
    lines = of_memoriser.verdict.lines
    assert [line.partition(":")[0] for line in lines[:3]] == [
        "accuracy as drawn",
        "accuracy tuned",
        "good and new",
    ]
    assert lines[-1] == "no flag was raised" or lines[-1].startswith("flag: ")
    drawn = lines[0]
    assert "beats default_init (+0." in drawn
    assert "is not told apart from " in drawn
    assert "retrieval" in drawn.partition("is not told apart from ")[2]
    interpolation = of_memoriser.verdict.against("interpolation", "accuracy as drawn")
    assert math.isfinite(interpolation.error)
    with pytest.raises(KeyError, match="nothing: was not compared"):
        of_memoriser.verdict.against("nothing", "accuracy as drawn")


def test_a_difference_counts_from_two_standard_errors_on():
    beaten, ahead, neither = (
        ArmComparison("a", "accuracy", x, 0.01) for x in (0.021, -0.021, 0.019)
    )
    assert beaten.beaten
    assert ahead.ahead
    assert not neither.beaten | neither.ahead
    told = str(Verdict((beaten, ahead, neither), {}))
    assert told.startswith("accuracy: generated beats a (+0.021 ± 0.010); loses to a (-0.021")


def test_standard_errors_are_those_of_the_draws(of_fresh):
    trials = of_fresh.trials
    found = of_fresh.verdict.against("noise", "accuracy as drawn")
    a, b = trials["generated"].drawn.double(), trials["noise"].drawn.double()
    assert found.difference == pytest.approx(float(a.mean() - b.mean()))
    assert found.error == pytest.approx(float((a.var() / N + b.var() / N).sqrt()))


def test_noise_at_equal_novelty_is_as_new_as_what_was_generated(of_fresh):
    mine, noisy = (
        float(of_fresh.novelty[name].distance.median())
        for name in ("generated", "noise_at_equal_novelty")
    )
    assert noisy == pytest.approx(mine, rel=0.03)
    assert of_fresh.verdict.against("noise_at_equal_novelty", "accuracy as drawn").beaten


def test_noise_as_new_as_a_copy_is_the_copy():
    known = dataclasses.replace(start(), fitted=Planted(fresh))
    drawn = EqualNoveltyStart(0.0).draw(known, 3, generator=rng())
    near = aligned_nearest(spec(), drawn, start().members.params)
    assert near.distance.max() < 1e-4


def test_the_nearest_of_all_at_once_is_the_nearest_of_one_after_the_other():
    zoo = start().members.rows(torch.arange(0, 48, 5))
    samples = shuffled({n: t[:3] for n, t in trained(900, 12)[1].items()}, rng(1))
    found = aligned_nearest(spec(), samples, zoo)
    for theta, distance, index in zip(unstack(samples), found.distance, found.index, strict=True):
        i, d = nearest(spec(), theta, zoo)
        assert (i, float(distance)) == (int(index), pytest.approx(d, rel=1e-6))


def test_a_permuted_copy_is_far_only_before_alignment():
    one = start().members.rows(torch.tensor([3]))
    moved = shuffled(one, rng(5))
    assert aligned_distance(spec(), unstack(one)[0], unstack(moved)[0]) < 1e-4
    assert (ravel(one, 1) - ravel(moved, 1)).norm() > 1


def test_the_overlap_of_errors_is_that_of_the_toy():
    errors = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]], dtype=torch.bool)
    none = torch.zeros(1, 6, dtype=torch.bool)
    assert max_iou(errors[:1], errors[1:]).tolist() == [0.5]
    assert max_iou(errors[:1], errors[:1]).tolist() == [1.0]
    assert max_iou(none, none).tolist() == [1.0]


def test_good_and_new_needs_both():
    accuracy, distance = torch.tensor([0.9, 0.9, 0.8, 0.8]), torch.tensor([3.0, 1.0, 3.0, 1.0])
    found = Novelty(accuracy, distance, *[torch.zeros(4)] * 3, 1.0)
    assert found.good_and_new(2, bar=0.85, natural=1.0).tolist() == [True, False, False, False]
    assert found.good_and_new(0.5, bar=0.85, natural=1.0).tolist() == [True, True, False, False]


def test_the_same_question_has_the_same_answer_and_leaves_the_members_alone():
    before = {name: tensor.clone() for name, tensor in start().members.params.items()}
    one, other = (judged(fresh, {"noise": NoiseStart(0.2)}) for _ in range(2))
    assert one.scores == other.scores
    assert one.verdict == other.verdict
    assert all(torch.equal(before[n], t) for n, t in start().members.params.items())


def test_half_way_between_two_members_is_half_their_distance_from_either():
    good = {name: tensor[:2] for name, tensor in start().good.items()}
    asked = dataclasses.replace(start(), good=good)
    middle = InterpolationStart().draw(asked, 4, generator=rng())
    a, b = unstack(good)
    apart = aligned_distance(spec(), a, b)
    near = aligned_nearest(spec(), middle, good).distance
    torch.testing.assert_close(near, torch.full((4,), apart / 2).double(), rtol=0.02, atol=0)


@pytest.mark.parametrize("law", INITIALIZER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ARMS)
def test_an_arm_keeps_the_laws_of_initialisers(name, law):
    law(Row(ARMS[name]))


def test_networks_are_run_as_the_task_runs_them(of_fresh):
    accuracy = data().evaluate(make(), fresh(N, None, rng()), "test")["accuracy"]
    torch.testing.assert_close(of_fresh.novelty["generated"].accuracy.float(), accuracy)
