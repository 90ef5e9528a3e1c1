"""Diffusion told of a task on the axes it belongs to: the order of classes is a symmetry."""

import pytest
import torch
from laws.task_generators import SPEC, members, rng, told

from wsl.generative import AxisFeatures, LabelledExamples, TaskDiffusion, class_statistics
from wsl.params import ravel, unravel
from wsl.symmetry import Permutation

AXES = AxisFeatures(SPEC)
FLOATING = [name for name in SPEC.axes if "num_batches" not in name]
ORDER = torch.tensor([2, 0, 1])


def awake(**options):
    """A model in float64 of random members, none of whose maps is zero."""
    model = TaskDiffusion(SPEC, channels=8, blocks=2, width=4, **options).double()
    weights = {n: torch.rand(6, *s, generator=rng(2)).double() for n, s in SPEC.shapes.items()}
    model.standardizer.fit(weights)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        for last in model.prior.denoiser.lower:
            last.weight.normal_()
            last.bias.normal_()
    return model


def wide(examples):
    return LabelledExamples(examples.inputs.double())


def drawn(model, condition, noise):
    return model.sample(len(noise), condition=condition, noise=noise, steps=4)


def noise(model, n=3):
    return torch.randn(n, model.standardizer.features, generator=rng(), dtype=torch.float64)


def shapes():
    return AXES.spec.restrict(FLOATING).shapes


def close(one, other):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-8, atol=1e-8)


def different(one, other):
    return any(not torch.allclose(one[n], other[n]) for n in one if one[n].is_floating_point())


def test_another_order_of_the_classes_moves_the_outputs_of_what_is_drawn():
    model, condition = awake(), wide(told(3))
    order = ORDER.expand(3, -1)
    start = noise(model)
    moved = ravel(AXES.ordered(unravel(start, shapes()), order), 1)
    before = drawn(model, condition, start)
    after = drawn(model, condition.ordered(order), moved)
    close(after, AXES.ordered(before, order))
    assert different(after, before)


def test_the_noise_of_the_classes_has_to_move_with_them():
    model, condition = awake(), wide(told(3))
    order, start = ORDER.expand(3, -1), noise(model)
    before = drawn(model, condition, start)
    assert different(drawn(model, condition.ordered(order), start), AXES.ordered(before, order))


def test_noise_whose_hidden_units_are_moved_becomes_the_network_that_is_moved():
    model, condition = awake(), wide(told(3))
    start = noise(model)
    g = Permutation.random(SPEC.restrict(FLOATING), rng(1))
    moved = ravel(g(unravel(start, shapes())), 1)
    before, after = drawn(model, condition, start), drawn(model, condition, moved)
    close({n: after[n] for n in FLOATING}, g({n: before[n] for n in FLOATING}))


def test_no_order_of_the_shots_matters_and_another_number_of_them_is_taken():
    model, one = awake(), wide(told(1))
    start = noise(model, 1)
    again = LabelledExamples(one.inputs.flip(2))
    twice = LabelledExamples(torch.cat([one.inputs, one.inputs], 2))
    close(drawn(model, one, start), drawn(model, again, start))
    close(drawn(model, one, start), drawn(model, twice, start))


def test_what_is_told_of_a_class_reaches_its_row_and_what_is_told_of_a_pixel_its_column():
    model = awake()
    assert model.prior.denoiser.on_inputs
    condition = wide(told(1))
    start, changed = noise(model, 1), condition.inputs.clone()
    changed[:, 1] += 0.5
    assert different(drawn(model, condition, start), drawn(model, LabelledExamples(changed), start))


def test_a_condition_that_is_hidden_says_nothing():
    model = awake()
    denoiser, x = model.prior.denoiser, noise(model, 2)
    t, off = torch.tensor([3, 700]), torch.zeros(2, dtype=torch.float64)
    told_of = [class_statistics(wide(told(2, seed=s))).flatten(1) for s in (2, 3)]
    one, other = (denoiser(x, t, c, known=off) for c in told_of)
    assert torch.equal(one, other)
    assert not torch.allclose(one, denoiser(x, t, told_of[0], known=off + 1))


def test_all_numbers_of_a_condition_are_standardised_alike():
    model = TaskDiffusion(SPEC, channels=4, blocks=1, width=4)
    model.fit(members(), steps=1)
    for kept in (model.prior.condition_mean, model.prior.condition_std):
        assert torch.equal(kept, kept[:1].expand_as(kept))
    statistics = class_statistics(members().examples)
    torch.testing.assert_close(model.prior.condition_mean[0], statistics.mean())


def test_class_statistics_are_mean_and_deviation():
    examples = told(2)
    found = class_statistics(examples)
    flat = examples.inputs.flatten(3)
    assert found.shape == (2, 3, 32)
    torch.testing.assert_close(found[1, 2, :16], flat[1, 2].mean(0))
    torch.testing.assert_close(found[1, 2, 16:], flat[1, 2].std(0, correction=0))


def test_numbers_are_no_task():
    model = TaskDiffusion(SPEC, channels=4, blocks=1, width=4)
    model.fit(members(), steps=1)
    with pytest.raises(ValueError, match="2 classes, but networks here have 3 outputs"):
        model.sample(1, condition=LabelledExamples(torch.rand(1, 2, 4, 1, 4, 4)))
    assert model.conditions == 0
